"""The stream the prior reads: start-of-text | text, padded | start-of-image | image tokens.

One vocabulary numbers everything: [0, V) BPE text, then one *learned pad for each text position* (T of them), then the
two start tokens, then the K image tokens. A stream of T text positions and N image tokens is fed as
T + 2 + (N - 1) inputs: the last image token is never an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import UserError


class TextTooLong(UserError):
    """A caption has more tokens than the prior has text positions."""


@dataclass(frozen=True)
class StreamLayout:
    """Where everything is in the stream and in its vocabulary."""

    text_length: int
    text_vocabulary: int
    grid: tuple[int, int]
    codebook_size: int

    @property
    def prefix_length(self) -> int:
        """Inputs before the first image token: start-of-text, T text positions, start-of-image."""
        return self.text_length + 2

    @property
    def image_length(self) -> int:
        """N, image tokens per image."""
        return self.grid[0] * self.grid[1]

    @property
    def length(self) -> int:
        """Inputs in a whole stream."""
        return self.prefix_length + self.image_length - 1

    @property
    def start_of_text(self) -> int:
        return self.text_vocabulary + self.text_length

    @property
    def start_of_image(self) -> int:
        return self.start_of_text + 1

    @property
    def image_offset(self) -> int:
        """Stream id of image token 0."""
        return self.start_of_image + 1

    @property
    def vocabulary(self) -> int:
        return self.image_offset + self.codebook_size

    def prefix(self, text: Tensor) -> Tensor:
        """Text int64 [B, T] (see :func:`text_tensor`) -> stream ids [B, T + 2]."""
        start = text.new_full((text.shape[0], 1), self.start_of_text)
        return torch.cat([start, text, torch.full_like(start, self.start_of_image)], dim=1)

    def inputs(self, text: Tensor, image_tokens: Tensor) -> Tensor:
        """Text [B, T] and image tokens [B, N] -> all stream inputs [B, L]; the last image token is left out."""
        return torch.cat([self.prefix(text), image_tokens[:, :-1] + self.image_offset], dim=1)


def text_tensor(encoded: Sequence[Sequence[int]], layout: StreamLayout) -> Tensor:
    """BPE ids of B captions -> int64 [B, T], empty places filled with the learned pad of their position.

    Raises:
        TextTooLong: a caption has more than T tokens; truncating is the caller's decision, never silent.
    """
    longest = max(map(len, encoded), default=0)
    if longest > layout.text_length:
        raise TextTooLong(f"a caption has {longest} tokens, the prior takes {layout.text_length}: shorten it.")
    pads = torch.arange(layout.text_vocabulary, layout.text_vocabulary + layout.text_length)
    text = pads.repeat(len(encoded), 1)
    for row, ids in zip(text, encoded, strict=True):
        row[: len(ids)] = torch.tensor(list(ids), dtype=torch.long)
    return text
