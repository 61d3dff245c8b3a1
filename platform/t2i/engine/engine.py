"""The engine: continuous batching of requests over a fixed number of slots, one image token per slot and step."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TypeVar

from models.prior import Prior
from t2i.engine.request import FinishedCandidate, PartialCandidate, Request, StepResult, TokenProgress
from t2i.engine.runner import Runner
from t2i.engine.scheduler import RunningCandidate, Scheduler
from t2i.sampling import RequestError

CandidateT = TypeVar("CandidateT", FinishedCandidate, PartialCandidate)


class Engine:
    """Samples image tokens for any mix of requests; all calls must come from one thread.

    Up to ``slots`` candidates run at once, of at most ``captions`` different captions (None: as many as slots). A slot
    that falls free is filled again at the next step. ``clock`` gives the Unix time that deadlines are compared with.
    """

    def __init__(
        self, prior: Prior, slots: int, captions: int | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.layout = prior.layout
        self.slots = slots
        self.captions = captions = min(captions or slots, slots)
        self._clock = clock
        self._runner = Runner(prior, slots, captions)
        self._scheduler = Scheduler(slots, captions, self.layout.image_length)

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running."""
        return self._scheduler.has_work

    @property
    def slots_used(self) -> int:
        """How many slots hold a candidate; a guided one takes two."""
        return self._scheduler.slots_used

    @property
    def cache_bytes(self) -> int:
        """Bytes of the KV cache in use now."""
        return self._runner.cache.bytes

    def compile(self) -> None:
        """Compile the decode step; call it before the first request.

        It pays with few slots and on a GPU. A compiled engine obeys the seed contract too, but as its rounding differs,
        some tokens differ from those of an engine that is not compiled.
        """
        self._runner.compile()

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            RequestError: its text or its prefix does not fit the prior, or its id is in use.
        """
        layout = self.layout
        if len(request.text) > layout.text_length:
            limit = layout.text_length
            raise RequestError("caption", f"caption has {len(request.text)} tokens: the prior takes at most {limit}.")
        if any(not 0 <= token < layout.text_vocabulary for token in request.text):
            raise RequestError(
                "caption", "caption has tokens that the prior does not know: use the prior's own tokenizer."
            )
        if len(request.prefix) >= layout.image_length:
            limit = layout.image_length
            raise RequestError("prefix", f"prefix has {len(request.prefix)} image tokens: use at most {limit - 1}.")
        if any(not 0 <= token < layout.codebook_size for token in request.prefix):
            raise RequestError("prefix", "prefix has image tokens outside of the codebook: use the prior's own dVAE.")
        self._scheduler.add(request)

    def cancel(self, request_id: str) -> int:
        """Remove a request; return the image tokens spent on it (0 if it is not here)."""
        return self._scheduler.cancel(request_id)

    def drop(self, request_id: str, candidates: Collection[int]) -> int:
        """Stop some candidates of a request; return how many image tokens need not be made because of that."""
        return self._scheduler.drop(request_id, candidates)

    def progress(self, request_id: str) -> TokenProgress:
        """Return how many new image tokens of a waiting or running request are done, and how many there will be."""
        return self._scheduler.progress(request_id)

    def candidate_progress(self, request_id: str) -> list[TokenProgress]:
        """Return the same as :meth:`progress` for each candidate of a request that is waiting or running."""
        return self._scheduler.candidate_progress(request_id)

    def step(self) -> StepResult:
        """Remove expired requests, admit waiting candidates, then make one image token for every running candidate."""
        expired = self._scheduler.expire(self._clock())
        admitted = self._scheduler.admit()
        running = list(self._scheduler.running.values())
        if not running:
            return StepResult([], [], {}, expired)
        self._runner.assign(admitted, running)
        self._runner.decode()
        finished = self._scheduler.advance()
        partial = [r for r in running if r.request.progressive and self._is_at_row_end(r) and not r.is_finished]
        progress = {r.request.id: r.scheduled.progress for r in running}
        return StepResult(
            self._with_tokens(FinishedCandidate, finished),
            self._with_tokens(PartialCandidate, partial),
            progress,
            expired,
        )

    def _is_at_row_end(self, running: RunningCandidate) -> bool:
        return running.tokens % self.layout.grid[1] == 0

    def _with_tokens(self, kind: type[CandidateT], running: list[RunningCandidate]) -> list[CandidateT]:
        """Return each of ``running`` as an object of class ``kind`` with the image tokens that it has so far."""
        tokens = self._runner.image_tokens(running)
        return [kind(r.request.id, r.candidate, row) for r, row in zip(running, tokens, strict=True)]
