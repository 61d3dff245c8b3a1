"""What goes into the engine and what comes out of it: small frozen dataclasses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.tokenizer import CaptionTokenizer
from t2i.sampling import MAX_SEED, RequestError, SamplingParams


@dataclass(frozen=True)
class Request:
    """``candidates`` independent sequences of image tokens, to be sampled for one caption.

    Candidate i of the same (text, prefix, seed, sampling) always has the same image tokens (the seed contract).

    Attributes:
        text: text tokens (BPE ids) without pads.
        prefix: image tokens in raster order with which every candidate begins.
        deadline: Unix time from which on nothing more is computed for it.
        client: who asked; clients share the slots evenly, whatever the number and size of their requests.
        progressive: whether its candidates are also handed out part-way, at the end of every row of image tokens.
    """

    id: str
    text: tuple[int, ...]
    candidates: int
    seed: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    prefix: tuple[int, ...] = ()
    deadline: float = math.inf
    client: str = ""
    progressive: bool = False

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise RequestError("candidates", f"candidates is {self.candidates}: ask for at least 1.")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError("seed", f"seed is {self.seed}: use an integer from 0 to 2^63 - 1.")


def encode_request(
    tokenizer: CaptionTokenizer,
    text_length: int,
    request_id: str,
    caption: str,
    *,
    candidates: int,
    seed: int,
    sampling: SamplingParams | None = None,
    prefix: Sequence[int] = (),
    deadline: float = math.inf,
    client: str = "",
    progressive: bool = False,
) -> tuple[Request, bool]:
    """Return the engine's request for a caption, and whether the caption was truncated to ``text_length`` tokens.

    Raises:
        CaptionError: the caption is empty or not valid Unicode.
        RequestError: candidates or seed is out of range.
    """
    encoded = tokenizer.encode(caption, text_length)
    request = Request(
        request_id,
        tuple(encoded.ids),
        candidates,
        seed,
        sampling or SamplingParams(),
        tuple(prefix),
        deadline,
        client,
        progressive,
    )
    return request, encoded.truncated


def rows_to_keep(rows: int | None, height: int) -> int:
    """Return how many of an image's ``height`` rows of tokens are kept to continue it: ``rows``, by default 15 of 32.

    The paper keeps 15 of 32 rows to complete images (figure 2d); other heights keep that share, at least one row.

    Raises:
        RequestError: ``rows`` keeps no row, or all.
    """
    if rows is None:
        return max(1, round(height * 15 / 32))
    if not 1 <= rows < height:
        raise RequestError("image_rows", f"image_rows is {rows} of {height}: use 1 to {height - 1}.")
    return rows


@dataclass(frozen=True)
class FinishedCandidate:
    """A candidate with all its image tokens, int32 [N] in raster order."""

    request_id: str
    candidate: int
    image_tokens: np.ndarray


@dataclass(frozen=True)
class PartialCandidate:
    """A candidate that has just completed a row: its image tokens so far, int32 [r * w] of its first r rows."""

    request_id: str
    candidate: int
    image_tokens: np.ndarray


@dataclass(frozen=True)
class TokenProgress:
    """How many new image tokens are done and how many there are in all; a prefix is not counted."""

    tokens_done: int
    tokens_total: int


@dataclass(frozen=True)
class StepResult:
    """What one step of the engine gave.

    Attributes:
        finished: candidates that have all their image tokens now.
        partial: candidates of ``progressive`` requests that completed a row but not yet the image; once for each row,
            if a candidate completed several.
        progress: by request id, of every request that has running candidates.
        accepted: by request id, how many image tokens the step made for it.
        candidates: how many candidates the step made image tokens for.
        expired: requests whose deadline had passed, id -> image tokens spent on it.
    """

    finished: list[FinishedCandidate]
    partial: list[PartialCandidate]
    progress: dict[str, TokenProgress]
    accepted: dict[str, int]
    candidates: int
    expired: dict[str, int]

    @property
    def tokens_per_candidate(self) -> float:
        """How many image tokens a candidate got on average; it is more than one if drafts came true."""
        return sum(self.accepted.values()) / self.candidates if self.candidates else 0.0
