"""The engine: schedule, run, update, once per image token (continuous batching over static slots)."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from models.prior import Prior
from t2i.engine.request import FinishedCandidate, Progress, Request, RequestError, StepResult
from t2i.engine.runner import Runner
from t2i.engine.scheduler import Running, Scheduler


class Engine:
    """Turns requests into image tokens; one thread calls it.

    ``slots`` candidates run at once, of any mix of requests; a slot that falls free is refilled at the next step.
    """

    def __init__(self, prior: Prior, slots: int) -> None:
        self.layout = prior.layout
        self._runner = Runner(prior, slots)
        self._scheduler = Scheduler(slots, self.layout.image_length)

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running."""
        return self._scheduler.has_work

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

    def progress(self, request_id: str) -> Progress:
        """Image tokens done and to do for a request that is waiting or running."""
        return self._scheduler.progress(request_id)

    def step(self) -> StepResult:
        """Admit what fits, then make one image token for every running candidate."""
        self._start(self._scheduler.admit())
        self._runner.hold(self._scheduler.running.values())
        advanced = {running.request.id for running in self._scheduler.running.values()}
        if not advanced:
            return StepResult([], {})
        self._runner.decode()
        finished = [self._finish(running) for running in self._scheduler.advance()]
        progress = {request_id: self._scheduler.progress(request_id) for request_id in advanced}
        self._scheduler.forget_finished()
        return StepResult(finished, progress)

    def _start(self, admitted: list[Running]) -> None:
        by_request = sorted(admitted, key=lambda running: running.request.id)
        for _, group in groupby(by_request, key=lambda running: running.request.id):
            self._runner.start(list(group))

    def _finish(self, running: Running) -> FinishedCandidate:
        tokens = self._runner.tokens(running.slot).to("cpu").numpy().astype(np.int32)
        return FinishedCandidate(running.request.id, running.candidate, tokens)
