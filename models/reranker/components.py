"""The parts of a reranker, whichever CLIP it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class CLIPComponents:
    """An open_clip model, its tokenizer (captions -> ids int64 [B, T]), and how images are prepared for it.

    They are resized by ``interpolation`` to ``side`` x ``side`` pixels, and normalised by ``mean`` and ``std`` of red,
    green and blue.
    """

    clip: Any
    tokenize: Callable[[Sequence[str]], Tensor]
    side: int
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str = "bicubic"
