"""How a request ended, in the words of metrics and log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from t2i.sampling import RequestError
from t2i.serve.access.keys import ForbiddenError, UnauthenticatedError
from t2i.serve.access.quota import QuotaExceededError
from t2i.serve.messages import QueueFullError


class End(Enum):
    """The kinds of ends."""

    ANSWERED = "answered"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """How a request ended, and why, in a word for labels."""

    end: End
    reason: str


ANSWERED = Outcome(End.ANSWERED, "length")
CANCELLED = Outcome(End.CANCELLED, "cancelled")
DEADLINE = Outcome(End.FAILED, "deadline")
INTERNAL = Outcome(End.FAILED, "internal")

_OUTCOMES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Outcome], ...] = (
    ((asyncio.CancelledError, GeneratorExit), CANCELLED),
    (RequestError, Outcome(End.REJECTED, "invalid")),
    (UnauthenticatedError, Outcome(End.REJECTED, "unauthenticated")),
    (ForbiddenError, Outcome(End.REJECTED, "forbidden")),
    (QuotaExceededError, Outcome(End.REJECTED, "quota")),
    ((QueueFullError, BackPressureError), Outcome(End.REJECTED, "queue_full")),
    (TimeoutError, DEADLINE),
    ((RayActorError, DeploymentUnavailableError, ReplicaUnavailableError), Outcome(End.FAILED, "unavailable")),
)


def cause_of(error: BaseException) -> BaseException:
    """Return what was raised in a replica, if that is where the error comes from."""
    return error.cause if isinstance(error, RayTaskError) else error


def outcome_of(error: BaseException) -> Outcome:
    """Return the outcome of a request that ended with this error."""
    cause = cause_of(error)
    return next((outcome for kinds, outcome in _OUTCOMES if isinstance(cause, kinds)), INTERNAL)
