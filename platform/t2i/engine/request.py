"""What crosses the engine's border: small frozen dataclasses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from models.errors import UserError
from models.settings import setting

MAX_SEED = 2**63 - 1


class RequestError(UserError):
    """A request that cannot be served; ``field`` names the part that is wrong."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(message)
        self.field = field_name

    def __reduce__(self) -> tuple[type[RequestError], tuple[str, str]]:
        """Both arguments, so that the error survives the way out of another process."""
        return RequestError, (self.field, str(self))


@dataclass
class SamplingParams:
    """How a token is drawn from the prior's logits; the defaults are the paper's.

    ``guidance`` s other than 1 draws from uncaptioned + s (captioned - uncaptioned) logits (Ho and Salimans 2022) and
    takes two slots a candidate. Of the tempered distribution, ``top_k`` > 0 leaves the k likeliest tokens and ``top_p``
    < 1 the fewest whose probability reaches p.
    """

    temperature: float = setting(1.0, "0 is greedy; the paper uses 1")
    top_k: int = setting(0, "draw from the k likeliest image tokens; 0: from all")
    top_p: float = setting(1.0, "draw from the likeliest image tokens that together reach p; 1: from all")
    guidance: float = setting(1.0, "classifier-free guidance, of a prior trained with caption_dropout; 1: none")

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise RequestError(
                "temperature", f"temperature is {self.temperature}: use 0 (greedy) to 100; the paper uses 1."
            )
        if self.top_k < 0:
            raise RequestError("top_k", f"top_k is {self.top_k}: use 1 or more, or 0 for no limit.")
        if not 0 < self.top_p <= 1:
            raise RequestError("top_p", f"top_p is {self.top_p}: use more than 0, up to 1, which is no limit.")
        if not 0 <= self.guidance <= 100:
            raise RequestError("guidance", f"guidance is {self.guidance}: use 0 to 100; 1 is none.")

    @property
    def uses_top_k_top_p(self) -> bool:
        """Whether some tokens are ruled out."""
        return self.top_k > 0 or self.top_p < 1

    @property
    def uses_guidance(self) -> bool:
        """Whether the uncaptioned logits are needed."""
        return self.guidance != 1


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
