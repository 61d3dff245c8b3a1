"""The stream of ids that the prior reads: start of text, T text positions, start of image, image tokens.

    position   0          1 .. T                T + 1           T + 2 .. L - 1
    input      text start | BPE tokens, pads  | image start   | image tokens 0 .. N - 2
               <---------- prefix, P = T + 2 inputs -------->

Every position predicts the next input, the last one image token N - 1, which is therefore never an input:
L = P + N - 1.

One vocabulary numbers all ids: [0, V) BPE tokens, then one *learned pad for each text position* (T of them), then the
two start tokens, then the K image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import UserError


class TextTooLongError(UserError):
    """A caption has more tokens than the prior has text positions."""


@dataclass(frozen=True)
class StreamLayout:
    """Positions in the stream, and ids in its vocabulary, of text, start tokens and image tokens."""

    text_length: int
    text_vocabulary: int
    grid: tuple[int, int]
    codebook_size: int

    @property
    def prefix_length(self) -> int:
        """P = T + 2, the inputs before the first image token: start of text, T text positions, start of image."""
        return self.text_length + 2

    @property
    def image_length(self) -> int:
        """N = h w, the image tokens of one image."""
        return self.grid[0] * self.grid[1]

    @property
    def length(self) -> int:
        """L = P + N - 1, the inputs of a whole stream."""
        return self.prefix_length + self.image_length - 1

    @property
    def start_of_text(self) -> int:
        """Stream id of the input before the text."""
        return self.text_vocabulary + self.text_length

    @property
    def start_of_image(self) -> int:
        """Stream id of the input between text and image."""
        return self.start_of_text + 1

    @property
    def image_offset(self) -> int:
        """Stream id of image token 0; image token i has the id ``image_offset + i``."""
        return self.start_of_image + 1

    @property
    def vocabulary(self) -> int:
        """Number of different stream ids: V + T + 2 + K."""
        return self.image_offset + self.codebook_size

    def prefix(self, text: Tensor) -> Tensor:
        """Return the prefixes, stream ids int64 [B, P], of text int64 [B, T] (see :func:`text_tensor`)."""
        start = text.new_full((text.shape[0], 1), self.start_of_text)
        return torch.cat([start, text, torch.full_like(start, self.start_of_image)], dim=1)

    def inputs(self, text: Tensor, image_tokens: Tensor) -> Tensor:
        """Return all inputs, stream ids int64 [B, L], of text int64 [B, T] and image tokens int64 [B, N]."""
        return torch.cat([self.prefix(text), image_tokens[:, :-1] + self.image_offset], dim=1)


def text_tensor(encoded: Sequence[Sequence[int]], layout: StreamLayout) -> Tensor:
    """Return the BPE ids of B captions as int64 [B, T]; positions after a caption's end hold their learned pads.

    Raises:
        TextTooLongError: a caption has more than T tokens. The caller decides whether to truncate it.
    """
    longest = max(map(len, encoded), default=0)
    if longest > layout.text_length:
        raise TextTooLongError(f"a caption has {longest} tokens, the prior takes {layout.text_length}: shorten it.")
    pads = torch.arange(layout.text_vocabulary, layout.text_vocabulary + layout.text_length)
    text = pads.repeat(len(encoded), 1)
    for row, ids in zip(text, encoded, strict=True):
        row[: len(ids)] = torch.tensor(list(ids), dtype=torch.long)
    return text
