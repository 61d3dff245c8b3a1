"""How image tokens are sampled: one declaration for jobs, engine, service, client and command line.

A new setting is declared here and in the two request messages of ``protos/v1``; tests/t2i/test_sampling.py compares
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from models.errors import UserError
from models.settings import setting, settings_out_of_bounds

MAX_SEED = 2**63 - 1
"""The largest int64, which is what protobuf and the noise keys hold."""


class RequestError(UserError):
    """A request that cannot be served; ``field`` is the name of the field that is wrong."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(message)
        self.field = field_name

    def __reduce__(self) -> tuple[type[RequestError], tuple[str, str]]:
        """Pickle both arguments: by default an exception is rebuilt from its message alone, which fails here."""
        return RequestError, (self.field, str(self))


@dataclass
class SamplingParams:
    """How one image token is sampled from the prior's logits; the defaults are the paper's.

    The settings apply in this order:

    1. ``guidance`` s: logits = unconditional + s (conditional - unconditional) (Ho and Salimans 2022). Any s but 1
       needs a second, captionless stream for each candidate, which takes a second slot.
    2. ``temperature``: probabilities = softmax(logits / temperature); 0 always takes the most likely token.
    3. ``top_k``: keep only the k most likely tokens; 0 keeps all.
    4. ``top_p``: of those, keep the fewest most likely tokens whose probabilities sum to at least p; 1 keeps all. The
       probabilities are those of step 2, not renormalised after step 3.
    """

    temperature: float = setting(
        1.0, "0 always takes the most likely image token; the paper uses 1", at_least=0, at_most=100
    )
    top_k: int = setting(0, "sample from the k most likely image tokens; 0: from all", at_least=0)
    top_p: float = setting(
        1.0, "sample from the most likely image tokens that together have probability p; 1: all", above=0, at_most=1
    )
    guidance: float = setting(
        1.0,
        "classifier-free guidance scale, for a prior trained with caption_dropout; 1: none",
        at_least=0,
        at_most=100,
    )

    def __post_init__(self) -> None:
        for name, sentence in settings_out_of_bounds(self):
            raise RequestError(name, sentence)

    @property
    def filters_tokens(self) -> bool:
        """Whether ``top_k`` or ``top_p`` rules out any token."""
        return self.top_k > 0 or self.top_p < 1

    @property
    def is_guided(self) -> bool:
        """Whether a second stream without caption is needed for guidance."""
        return self.guidance != 1


class SamplingOptions(TypedDict, total=False):
    """The fields of :class:`SamplingParams` as keyword arguments of the client."""

    temperature: float
    top_k: int
    top_p: float
    guidance: float
