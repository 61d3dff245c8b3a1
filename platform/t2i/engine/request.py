"""What crosses the engine's border: small frozen dataclasses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from t2i.sampling import MAX_SEED, RequestError, SamplingParams


@dataclass(frozen=True)
class Request:
    """Image tokens wanted: ``candidates`` independent streams for one caption.

    ``text`` are BPE ids without pads, ``prefix`` image tokens in raster order that every candidate begins with.
    Candidate i of (text, prefix, seed, sampling) is always the same tokens. Nothing is computed for it after
    ``deadline`` (Unix time). A ``progressive`` request has its rows of image tokens handed out as they are completed.
    """

    id: str
    text: tuple[int, ...]
    candidates: int
    seed: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    prefix: tuple[int, ...] = ()
    deadline: float = math.inf
    progressive: bool = False

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise RequestError("candidates", f"candidates is {self.candidates}: ask for at least 1.")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError("seed", f"seed is {self.seed}: use an integer from 0 to 2^63 - 1.")


def rows_to_keep(rows: int | None, height: int) -> int:
    """How many of ``height`` rows of image tokens to continue from: ``rows``, or the paper's 15 of 32 in proportion.

    Raises:
        RequestError: none, or all, would be kept.
    """
    if rows is None:
        return max(1, round(height * 15 / 32))
    if not 1 <= rows < height:
        raise RequestError("image_rows", f"image_rows is {rows} of {height}: use 1 to {height - 1}.")
    return rows


@dataclass(frozen=True)
class FinishedCandidate:
    """All N image tokens (int32, raster order) of one candidate."""

    request_id: str
    candidate: int
    image_tokens: np.ndarray


@dataclass(frozen=True)
class CompletedRows:
    """The image tokens (int32, raster order) of one candidate up to the end of the row that it has just completed."""

    request_id: str
    candidate: int
    image_tokens: np.ndarray


@dataclass(frozen=True)
class TokenProgress:
    """New image tokens, over all candidates of a request or of one."""

    tokens_done: int
    tokens_total: int


@dataclass(frozen=True)
class StepResult:
    """What one step of the engine brought.

    Finished candidates, completed rows of ``progressive`` requests, the progress of every request that advanced, and
    the requests whose deadline had passed, with the image tokens spent on each.
    """

    finished: list[FinishedCandidate]
    rows: list[CompletedRows]
    progress: dict[str, TokenProgress]
    expired: dict[str, int]
