"""Whole requests through an engine that nobody else uses: what the evaluation job and the CLI do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from t2i.engine.engine import Engine
from t2i.engine.pruning import Pruner
from t2i.engine.request import Request, StepResult, TokenProgress
from t2i.sampling import RequestError


@dataclass(frozen=True)
class SampledCandidates:
    """What came of one request.

    ``candidates`` int64 [n], ascending: all, or those that pruning left; ``image_tokens`` int32 [n, N] of each.
    ``tokens_saved`` image tokens of the others were never made.
    """

    candidates: np.ndarray
    image_tokens: np.ndarray
    tokens_saved: int


class OfflineRun:
    """Some requests on their way.

    They enter the engine in order, the next when there are slots for it. That of few captions many candidates run at
    once costs less than the other way round, and members of a group then run in step: a group that is judged when half
    of it is finished saves little.
    """

    def __init__(self, engine: Engine, slots: int, requests: Sequence[Request], pruner: Pruner | None = None) -> None:
        self._engine, self._slots, self._pruner = engine, slots, pruner
        self._requests = {request.id: request for request in requests}
        if len(self._requests) < len(requests):
            raise RequestError("id", "two requests have the same id: give each its own.")
        self._waiting = deque(requests)
        self._open: dict[str, set[int]] = {}  # in the engine: candidates neither made nor dropped
        self._tokens: dict[str, dict[int, np.ndarray]] = {request.id: {} for request in requests}
        self._made = dict.fromkeys(self._requests, 0)
        self._saved = dict.fromkeys(self._requests, 0)
        self._total = sum(request.candidates * self._to_make(request) for request in requests)

    @property
    def progress(self) -> TokenProgress:
        """Over all requests; what pruning saves is not to do."""
        return TokenProgress(sum(self._made.values()), self._total - sum(self._saved.values()))

    def run(self, on_progress: Callable[[TokenProgress], None] | None = None) -> dict[str, SampledCandidates]:
        """Draw all to their end: request id -> what came of it.

        Raises:
            RequestError: a request does not fit the prior; then none is left in the engine.
        """
        try:
            while self._waiting or self._engine.has_work:
                self._feed()
                self._take(self._engine.step())
                if on_progress:
                    on_progress(self.progress)
        finally:
            for request_id in self._open:
                self._engine.cancel(request_id)
        return {request_id: self._drawn(request_id) for request_id in self._requests}

    def _feed(self) -> None:
        while self._waiting and self._slots_wanted() < self._slots:
            request = self._waiting.popleft()
            self._engine.add(replace(request, progressive=self._pruner is not None))
            self._open[request.id] = set(range(request.candidates))

    def _slots_wanted(self) -> int:
        """By everything that is in the engine; a guided candidate takes two."""
        wanted = {
            name: len(left) * (1 + self._requests[name].sampling.uses_guidance) for name, left in self._open.items()
        }
        return sum(wanted.values())

    def _take(self, result: StepResult) -> None:
        for request_id, progress in result.progress.items():
            self._made[request_id] = progress.tokens_done
        for finished in result.finished:
            self._tokens[finished.request_id][finished.candidate] = finished.image_tokens
            self._close(finished.request_id, [finished.candidate])
        for request_id, hopeless in (self._pruner.update(result.rows) if self._pruner else {}).items():
            self._drop(request_id, hopeless)
        for request_id in result.expired:
            self._open.pop(request_id, None)

    def _drop(self, request_id: str, candidates: Collection[int]) -> None:
        """Wherever they are by now, the finished ones too."""
        self._saved[request_id] += self._engine.drop(request_id, candidates)
        for candidate in candidates:
            self._tokens[request_id].pop(candidate, None)
        self._close(request_id, candidates)

    def _close(self, request_id: str, candidates: Collection[int]) -> None:
        self._open[request_id].difference_update(candidates)
        if not self._open[request_id]:
            del self._open[request_id]

    def _drawn(self, request_id: str) -> SampledCandidates:
        tokens = self._tokens[request_id]
        candidates = np.array(sorted(tokens), np.int64)
        rows = np.array([tokens[candidate] for candidate in candidates.tolist()], np.int32)
        return SampledCandidates(
            candidates, rows.reshape(-1, self._engine.layout.image_length), self._saved[request_id]
        )

    def _to_make(self, request: Request) -> int:
        return self._engine.layout.image_length - len(request.prefix)
