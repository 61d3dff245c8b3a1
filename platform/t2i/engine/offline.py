"""Run whole requests through an engine that has no other users, as the jobs do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from t2i.engine.engine import Engine
from t2i.engine.pruning import Pruner
from t2i.engine.request import Request, StepResult, TokenProgress
from t2i.sampling import RequestError


@dataclass(frozen=True)
class SampledCandidates:
    """The image tokens sampled for one request.

    Attributes:
        candidates: int64 [n] ascending, the numbers of those that were finished: all, unless pruning stopped some.
        image_tokens: int32 [n, N], of each of them.
        tokens_saved: how many image tokens of the others were never made.
    """

    candidates: np.ndarray
    image_tokens: np.ndarray
    tokens_saved: int


class OfflineRun:
    """Runs requests through ``engine`` to their end; ``pruner`` may stop candidates part-way."""

    def __init__(self, engine: Engine, requests: Sequence[Request], pruner: Pruner | None = None) -> None:
        self._engine, self._pruner = engine, pruner
        self._requests = {request.id: request for request in requests}
        if len(self._requests) < len(requests):
            raise RequestError("id", "two requests have the same id: give each its own.")
        self._unfinished: dict[str, set[int]] = {}  # of requests in the engine: candidates not finished nor dropped
        self._tokens: dict[str, dict[int, np.ndarray]] = {request.id: {} for request in requests}
        self._tokens_done = dict.fromkeys(self._requests, 0)
        self._tokens_saved = dict.fromkeys(self._requests, 0)
        self._tokens_total = sum(request.candidates * self._tokens_per_candidate(request) for request in requests)

    @property
    def progress(self) -> TokenProgress:
        """New image tokens over all requests; the total is without those that pruning has saved so far."""
        return TokenProgress(sum(self._tokens_done.values()), self._tokens_total - sum(self._tokens_saved.values()))

    def run(self, on_progress: Callable[[TokenProgress], None] | None = None) -> dict[str, SampledCandidates]:
        """Sample all requests, calling ``on_progress`` after each step; return request id -> its candidates.

        Raises:
            RequestError: a request does not fit the prior; then none is left in the engine.
        """
        try:
            for request in self._requests.values():
                self._engine.add(replace(request, progressive=self._pruner is not None))
                self._unfinished[request.id] = set(range(request.candidates))
            while self._engine.has_work:
                self._take(self._engine.step())
                if on_progress:
                    on_progress(self.progress)
        finally:
            for request_id in self._unfinished:
                self._engine.cancel(request_id)
        return {request_id: self._sampled(request_id) for request_id in self._requests}

    def _take(self, result: StepResult) -> None:
        """Keep what a step gave, and drop the candidates that the pruner stops because of it."""
        for request_id, progress in result.progress.items():
            self._tokens_done[request_id] = progress.tokens_done
        # Drops come first: one step may complete the rows by which a candidate is judged as well as its image.
        for request_id, candidates in (self._pruner.update(result.partial) if self._pruner else {}).items():
            self._drop(request_id, candidates)
        for finished in result.finished:
            if finished.candidate in self._unfinished.get(finished.request_id, ()):
                self._tokens[finished.request_id][finished.candidate] = finished.image_tokens
                self._close(finished.request_id, [finished.candidate])
        for request_id in result.expired:
            self._unfinished.pop(request_id, None)

    def _drop(self, request_id: str, candidates: Collection[int]) -> None:
        """Stop the candidates, or discard those already finished: which ones survive must not depend on timing."""
        self._tokens_saved[request_id] += self._engine.drop(request_id, candidates)
        for candidate in candidates:
            self._tokens[request_id].pop(candidate, None)
        self._close(request_id, candidates)

    def _close(self, request_id: str, candidates: Collection[int]) -> None:
        """Count the candidates as finished or dropped, and forget a request that has no others."""
        self._unfinished[request_id].difference_update(candidates)
        if not self._unfinished[request_id]:
            del self._unfinished[request_id]

    def _sampled(self, request_id: str) -> SampledCandidates:
        tokens = self._tokens[request_id]
        candidates = np.array(sorted(tokens), np.int64)
        rows = np.array([tokens[candidate] for candidate in candidates.tolist()], np.int32)
        return SampledCandidates(
            candidates, rows.reshape(-1, self._engine.layout.image_length), self._tokens_saved[request_id]
        )

    def _tokens_per_candidate(self, request: Request) -> int:
        return self._engine.layout.image_length - len(request.prefix)
