"""How image tokens are drawn: the one declaration that jobs, engine, service, client and command line share.

A new setting is entered here, and as a field of the two request messages in ``protos/v1``; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

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


class SamplingOptions(TypedDict, total=False):
    """The fields of :class:`SamplingParams` as keyword arguments, for the client."""

    temperature: float
    top_k: int
    top_p: float
    guidance: float
