"""What crosses the engine's border: small frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.errors import UserError

MAX_SEED = 2**63 - 1


class RequestError(UserError):
    """A request that cannot be served; ``field`` names the part that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[type[RequestError], tuple[str, str]]:
        """Both arguments, so that the error survives the way out of another process."""
        return RequestError, (self.field, str(self))


@dataclass(frozen=True)
class Request:
    """Image tokens wanted: ``candidates`` independent streams for one caption.

    ``text`` are BPE ids without pads. Candidate i of (text, seed, temperature) is always the same tokens.
    """

    id: str
    text: tuple[int, ...]
    candidates: int
    seed: int
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise RequestError("candidates", f"candidates is {self.candidates}: ask for at least 1.")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError("seed", f"seed is {self.seed}: use an integer from 0 to 2^63 - 1.")
        if not 0 <= self.temperature <= 100:
            raise RequestError(
                "temperature", f"temperature is {self.temperature}: use 0 (greedy) to 100; the paper uses 1."
            )


@dataclass(frozen=True)
class FinishedCandidate:
    """All N image tokens (int32, raster order) of one candidate."""

    request_id: str
    candidate: int
    image_tokens: np.ndarray


@dataclass(frozen=True)
class Progress:
    """Image tokens over all candidates of one request."""

    tokens_done: int
    tokens_total: int


@dataclass(frozen=True)
class StepResult:
    """What one step of the engine brought: finished candidates, and the progress of every request that advanced."""

    finished: list[FinishedCandidate]
    progress: dict[str, Progress]
