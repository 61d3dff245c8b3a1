"""What a reranker is made of, whichever CLIP it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class CLIPComponents:
    """An open_clip model, its tokenizer (captions -> ids int64 [B, T]), and the images that it takes.

    Those are squares of ``side`` pixels, resized by ``interpolation``, normalised by ``mean`` and ``std`` of R, G, B.
    """

    clip: Any
    tokenize: Callable[[Sequence[str]], Tensor]
    side: int
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str = "bicubic"
