"""The engine: schedule, run, update, once per image token (continuous batching over static slots)."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TypeVar

from models.prior import Prior
from t2i.engine.request import CompletedRows, FinishedCandidate, Request, StepResult, TokenProgress
from t2i.engine.runner import Runner
from t2i.engine.scheduler import RunningCandidate, Scheduler
from t2i.sampling import RequestError

MadeT = TypeVar("MadeT", FinishedCandidate, CompletedRows)


class Engine:
    """Turns requests into image tokens; one thread calls it.

    ``slots`` candidates of up to ``captions`` different captions (as many, unless fewer are asked for) run at once, of
    any mix of requests; a slot that falls free is refilled at the next step.
    """

    def __init__(self, prior: Prior, slots: int, captions: int | None = None) -> None:
        self.layout = prior.layout
        captions = min(captions or slots, slots)
        self._runner = Runner(prior, slots, captions)
        self._scheduler = Scheduler(slots, captions, self.layout.image_length)

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running."""
        return self._scheduler.has_work

    @property
    def cache_bytes(self) -> int:
        """Memory of the keys and values held now."""
        return self._runner.cache.bytes

    def compile(self) -> None:
        """Compile the decoding step, before any request.

        Pays with few slots, and on a GPU. The tokens of a request stay the same whoever its neighbours are, but differ
        now and then from those of an engine that is not compiled, which rounds elsewhere.
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
        """Stop working for a request now; returns the image tokens spent on it (0 if it is not here)."""
        return self._scheduler.cancel(request_id)

    def drop(self, request_id: str, candidates: Collection[int]) -> int:
        """Stop some candidates of a request; returns the image tokens that will not be made."""
        return self._scheduler.drop(request_id, candidates)

    def progress(self, request_id: str) -> TokenProgress:
        """Image tokens done and to do for a request that is waiting or running."""
        return self._scheduler.progress(request_id)

    def candidate_progress(self, request_id: str) -> list[TokenProgress]:
        """The same for each of its candidates."""
        return self._scheduler.candidate_progress(request_id)

    def step(self) -> StepResult:
        """Admit what fits, then make one image token for every running candidate."""
        expired = self._scheduler.expire(time.time())
        admitted = self._scheduler.admit()
        running = list(self._scheduler.running.values())
        if not running:
            return StepResult([], [], {}, expired)
        self._runner.assign(admitted, running)
        self._runner.decode()
        whole = self._scheduler.advance()
        rows = [r for r in running if r.request.progressive and r.tokens % self.layout.grid[1] == 0 and not r.is_whole]
        progress = {r.request.id: r.entry.progress for r in running}
        return StepResult(self._made(FinishedCandidate, whole), self._made(CompletedRows, rows), progress, expired)

    def _made(self, kind: type[MadeT], running: list[RunningCandidate]) -> list[MadeT]:
        """What is there of each of ``running``."""
        tokens = self._runner.image_tokens(running)
        return [kind(r.request.id, r.candidate, row) for r, row in zip(running, tokens, strict=True)]
