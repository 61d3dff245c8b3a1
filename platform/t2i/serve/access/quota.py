"""What one key may use: image tokens a minute, and requests at once; pure, with a clock that is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GRACE_S = 5.0
"""Seconds after its deadline at which a request that nobody has closed counts as ended: its gateway was lost."""

ASK_AGAIN_S = 1.0
"""After how many seconds to ask again if it is not known when a place gets free."""


@dataclass(frozen=True)
class Claim:
    """A request's claim on the quota of a key; ``deadline`` is Unix time.

    It brings the key's limits with it, which its gateway has just read.
    """

    id: str
    key: str
    tokens_per_minute: int | None
    concurrent: int | None
    deadline: float


class QuotaExceededError(Exception):
    """A key has used up its quota; ``retry_after_s`` seconds later it may ask again."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class Quota:
    """The image tokens and the places that are left to one key.

    The tokens are a bucket that holds a minute's worth and fills evenly. A request takes its tokens before the first is
    sampled; what it did not need it gives back at its end. One that needs more than a whole bucket takes a full one and
    leaves a debt, so that it is possible, and the mean is kept:

        level  100 ....60        100.....-150             0
               take 40  fills    take 250   a debt, which fills first

    All methods may be called again with the same claim: a call whose answer was lost is repeated.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._per_minute: int | None = None
        self._level = 0.0
        self._filled_at = clock()
        self._reserved: dict[str, int] = {}  # tokens taken, by the ids of the requests that run
        self._deadlines: dict[str, float] = {}

    def open(self, claim: Claim) -> None:
        """Take a place.

        Raises:
            QuotaExceededError: the key has as many requests as it may have at once.
        """
        self._forget_lost()
        if claim.id in self._deadlines:
            return
        if claim.concurrent is not None and len(self._deadlines) >= claim.concurrent:
            at_once = f"key {claim.key} has {len(self._deadlines)} requests at once, and may have {claim.concurrent}"
            raise QuotaExceededError(f"{at_once}: ask again when one has ended.", ASK_AGAIN_S)
        self._deadlines[claim.id], self._reserved[claim.id] = claim.deadline, 0

    def reserve(self, claim: Claim, tokens: int) -> None:
        """Take the image tokens that a request is about to make.

        Raises:
            QuotaExceededError: they are not there; says when they will be.
        """
        if claim.tokens_per_minute is None or self._reserved.get(claim.id):
            return
        self._fill(claim.tokens_per_minute)
        missing = min(tokens, claim.tokens_per_minute) - self._level
        if missing > 0:
            seconds = missing * 60 / claim.tokens_per_minute
            limit = f"key {claim.key} may ask for {claim.tokens_per_minute} image tokens a minute"
            raise QuotaExceededError(f"{limit}: {tokens} more are possible in {seconds:.0f} s.", seconds)
        self._level -= tokens
        self._deadlines.setdefault(claim.id, claim.deadline)
        self._reserved[claim.id] = tokens

    def close(self, claim: Claim, spent: int) -> None:
        """Give the place back, and the tokens that were not ``spent``; those of lost replicas are not charged."""
        self._deadlines.pop(claim.id, None)
        unused = self._reserved.pop(claim.id, 0) - spent
        if unused > 0 and self._per_minute is not None:
            self._level = min(self._level + unused, self._per_minute)

    def _fill(self, per_minute: int) -> None:
        now = self._clock()
        if self._per_minute is None:
            self._level = float(per_minute)
        seconds, self._filled_at = max(0.0, now - self._filled_at), now
        self._per_minute = per_minute
        self._level = min(self._level + seconds * per_minute / 60, per_minute)

    def _forget_lost(self) -> None:
        now = self._clock()
        for each in [each for each, deadline in self._deadlines.items() if now > deadline + GRACE_S]:
            del self._deadlines[each], self._reserved[each]
