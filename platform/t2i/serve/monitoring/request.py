"""One request, whichever door it came by: counted, timed, traced, and one line of the log at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from t2i.logs import get_logger, name_request
from t2i.serve.monitoring import declared as metrics
from t2i.serve.monitoring import tracing
from t2i.serve.monitoring.declared import Metric
from t2i.serve.monitoring.outcome import ANSWERED, CANCELLED, DEADLINE, INTERNAL, End, Outcome, cause_of, outcome_of
from t2i.serve.monitoring.recorder import change, count, observe

logger = get_logger("serve.request")


class RequestMonitor:
    """What a request does and costs, as it tells it.

    ``model`` is the one that draws for it. While it is empty nothing is drawn (as in a list of models), and the request
    is counted only if it is rejected or fails. ``deadline`` is Unix time. ``headers`` hold the trace
    that it belongs to, if any.
    """

    def __init__(self, request_id: str, deadline: float, headers: Mapping[str, str]) -> None:
        self.model = ""
        self._id, self._deadline, self._headers = request_id, deadline, headers
        self._begin = time.monotonic()
        self._counted_in: Metric | None = None
        self._new_tokens = 0
        self._has_preview = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note how the block ends; what is logged and traced within it is this request's."""
        name_request(self._id)
        span = tracing.start_span("request", self._headers)
        tracing.make_current(span)
        outcome, sentence = ANSWERED, ""
        try:
            yield
        except BaseException as error:
            outcome, sentence = self._outcome(error), str(cause_of(error))
            raise
        finally:
            tracing.end_span(span, outcome, **{"t2i.request_id": self._id, "t2i.model": self.model})
            self._end(outcome, sentence)

    def waiting(self) -> None:
        """Note that it waits for its first image token."""
        self._count_in(metrics.REQUESTS_WAITING)

    def running(self) -> None:
        """Note that it has begun; it may be said again."""
        self._count_in(metrics.REQUESTS_RUNNING)

    def read(self, text_tokens: int) -> None:
        """Note the length of its caption."""
        count(metrics.PROMPT_TOKENS, text_tokens, model=self.model)

    def made(self, tokens: int, new: int) -> None:
        """Note image tokens; those that are not ``new`` are repeated after a replica was lost."""
        self._new_tokens += new
        count(metrics.GENERATION_TOKENS, tokens, model=self.model)
        count(metrics.WASTED_TOKENS, tokens - new, model=self.model, reason="repeated")

    def repeated(self) -> None:
        """Note that a replica was lost, and is asked again."""
        count(metrics.CALLS_REPEATED, model=self.model)

    def preview(self) -> None:
        """Note a preview; the first one is timed."""
        if not self._has_preview:
            observe(metrics.FIRST_PREVIEW, time.monotonic() - self._begin, model=self.model)
        self._has_preview = True

    def image(self, pixels: int) -> None:
        """Note an image of the answer."""
        count(metrics.IMAGES, model=self.model)
        count(metrics.PIXELS, pixels, model=self.model)

    def ranked(self, candidates: int, kept: int, tokens_per_step: float) -> None:
        """Note what became of the candidates, and how many image tokens a step of the engine made."""
        count(metrics.CANDIDATES, candidates, model=self.model)
        count(metrics.CANDIDATES_PRUNED, candidates - kept, model=self.model)
        observe(metrics.TOKENS_PER_STEP, tokens_per_step, model=self.model)

    def _count_in(self, gauge: Metric | None) -> None:
        """Leave the gauge that counts it now for another, or for none."""
        if gauge is self._counted_in:
            return
        if self._counted_in:
            change(self._counted_in, -1, model=self.model)
        if gauge:
            change(gauge, 1, model=self.model)
        self._counted_in = gauge

    def _outcome(self, error: BaseException) -> Outcome:
        """Return how it ended; at a client's own deadline gRPC may be the first to cancel."""
        outcome = outcome_of(error)
        return DEADLINE if outcome == CANCELLED and time.time() >= self._deadline else outcome

    def _end(self, outcome: Outcome, sentence: str) -> None:
        seconds = time.monotonic() - self._begin
        self._count_in(None)
        self._count_end(outcome, seconds)
        if outcome != INTERNAL and (self.model or outcome != ANSWERED):  # internal errors are logged with a traceback
            logger.info("request %s %s after %.2f s%s", self._id, outcome.end.value, seconds, _why(outcome, sentence))

    def _count_end(self, outcome: Outcome, seconds: float) -> None:
        match outcome.end:
            case End.ANSWERED if self.model:
                count(metrics.REQUEST_SUCCESS, model=self.model, finished_reason=outcome.reason)
                observe(metrics.E2E_LATENCY, seconds, model=self.model)
            case End.CANCELLED if self.model:
                count(metrics.REQUESTS_CANCELLED, model=self.model)
            case End.REJECTED:
                count(metrics.REQUESTS_REJECTED, model=self.model, reason=outcome.reason)
            case End.FAILED:
                count(metrics.REQUESTS_FAILED, model=self.model, reason=outcome.reason)
        if outcome.end is not End.ANSWERED:
            count(metrics.WASTED_TOKENS, self._new_tokens, model=self.model, reason=outcome.reason)


def _why(outcome: Outcome, sentence: str) -> str:
    """Return what the log says of a request that has no answer; the sentence is for what the caller can mend."""
    match outcome.end:
        case End.REJECTED:
            return f", {outcome.reason}: {sentence}"
        case End.FAILED:
            return f", {outcome.reason}"
        case _:
            return ""
