"""The engine: continuous batching of requests over a fixed number of slots, in each a token or more at every step."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from models.prior import Prior
from t2i.engine.drafting import Drafting, Share
from t2i.engine.request import FinishedCandidate, PartialCandidate, Request, StepResult, TokenProgress
from t2i.engine.runner import Runner
from t2i.engine.scheduler import RunningCandidate, Scheduler
from t2i.sampling import RequestError


class Engine:
    """Samples image tokens for any mix of requests; all calls must come from one thread.

    Up to ``slots`` candidates run at once, of at most ``captions`` different captions (None: as many as slots). A slot
    that falls free is filled again at the next step. ``clock`` gives the Unix time that deadlines are compared with.

    Slots that hold no candidate help the others to draft ahead, so that a step makes up to ``window`` image tokens of a
    candidate, which are the same as one at a time. With 1 nothing is drafted.
    """

    def __init__(
        self,
        prior: Prior,
        slots: int,
        captions: int | None = None,
        clock: Callable[[], float] = time.time,
        window: int = 1,
    ) -> None:
        self.layout = prior.layout
        self.slots = slots
        self.captions = captions = min(captions or slots, slots)
        self.window = window = max(1, min(window, slots))
        self._clock = clock
        self._drafting = Drafting(window)
        self._runner = Runner(prior, slots, captions, window)
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
        """Remove expired requests, admit waiting candidates, then make image tokens for every running candidate."""
        expired = self._scheduler.expire(self._clock())
        admitted = self._scheduler.admit()
        running = list(self._scheduler.running.values())
        if not running:
            return StepResult([], [], {}, {}, 0, expired)
        drafts = self._deal(running, set(admitted))
        self._runner.assign(admitted, running, drafts, self._scheduler.idle_slots)
        accepted = self._runner.decode()
        made = [accepted.get(each.slot, 1) for each in running]
        if accepted:
            self._drafting.note((count, tokens - 1) for count, tokens in zip(drafts, made, strict=True))
        finished = self._scheduler.advance(accepted)
        return StepResult(
            self._finished(finished),
            self._partial(running, made),
            {each.request.id: each.scheduled.progress for each in running},
            _sums((each.request.id, tokens) for each, tokens in zip(running, made, strict=True)),
            len(running),
            expired,
        )

    def _deal(self, running: Sequence[RunningCandidate], admitted: Collection[RunningCandidate]) -> list[int]:
        """Return how many tokens each candidate drafts: none in its first step, and none beyond its image's end."""
        spare = self.slots - self._scheduler.slots_used
        if not spare or self.window == 1:
            return [0] * len(running)
        last = self.layout.image_length - 1
        shares = [Share(0 if r in admitted else last - r.tokens, 1 if r.twin is None else 2) for r in running]
        return self._drafting.deal(spare, shares)

    def _finished(self, running: list[RunningCandidate]) -> list[FinishedCandidate]:
        tokens = self._runner.image_tokens(running)
        return [FinishedCandidate(r.request.id, r.candidate, row) for r, row in zip(running, tokens, strict=True)]

    def _partial(self, running: Sequence[RunningCandidate], made: Sequence[int]) -> list[PartialCandidate]:
        """Return the rows of the grid that were completed by the tokens ``made`` of each of ``running`` just now."""
        ends = {
            r: self._row_ends(r.tokens - new, r.tokens)
            for r, new in zip(running, made, strict=True)
            if r.request.progressive
        }
        completed = [r for r in ends if ends[r]]
        tokens = self._runner.image_tokens(completed)
        return [
            PartialCandidate(r.request.id, r.candidate, row[:end])
            for r, row in zip(completed, tokens, strict=True)
            for end in ends[r]
        ]

    def _row_ends(self, before: int, after: int) -> range:
        """Return at how many tokens a row ended as their number grew, but for the last row of the image."""
        width = self.layout.grid[1]
        return range(before // width * width + width, min(after, self.layout.image_length - 1) + 1, width)


def _sums(numbers: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the sum of the numbers of each name."""
    sums: dict[str, int] = defaultdict(int)
    for name, number in numbers:
        sums[name] += number
    return dict(sums)
