"""A replica of the prior: it counts image tokens as time goes by, and draws none."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from simpy import Environment, Store
from simpy.events import ProcessGenerator

from t2i.engine.request import Request
from t2i.engine.scheduler import TURNS, ScheduledRequest
from t2i.engine.turns import Turns
from t2i.serve.messages import QueueFullError
from t2i.serve.replicas.backlog import Backlog
from t2i.serve.replicas.engine_loop import PROGRESS_S
from t2i.simulate.costs import PriorCosts
from t2i.simulate.device import Device
from t2i.simulate.outcomes import ReplicaLostError

NEARLY = 1e-6
"""Image tokens by which a count of them may be off."""


@dataclass(frozen=True, eq=False)
class _Group:
    """Candidates of a request that began together, and so have all their tokens at the same count of them."""

    scheduled: ScheduledRequest
    candidates: int
    end: int


class PriorReplica:
    """Slots that all advance by as many image tokens a step; the service's own code says who gets a free one.

    Between two events only the count of each one's tokens changes: it grows by :attr:`tokens_per_step` every
    :attr:`step_s` seconds, and stands still while a caption is prefilled. Others join when it is a whole number.
    """

    def __init__(self, env: Environment, costs: PriorCosts, device: Device) -> None:
        self.told = 0.0  # progresses that each request here has been told so far: they share those of the replica
        self._env, self._costs, self._device = env, costs, device
        self._backlog = Backlog(costs.slots, costs.image_tokens)
        self._turns = Turns(max(1, costs.slots // TURNS))
        self._inboxes: dict[str, Store] = {}  # by request
        self._running: deque[_Group] = deque()  # the first to end first, as all make equally many tokens
        self._groups: Counter[ScheduledRequest] = Counter()
        self._captions: Counter[tuple[int, ...]] = Counter()  # how many groups read each
        self._slots_in_use: Counter[str] = Counter()  # by client
        self._free = costs.slots
        self._tokens, self._clock = 0.0, device.clock  # tokens up to a time, which lies ahead during a prefill
        self._since = self._told_at = env.now  # when tokens, and progresses, were counted last
        self._wake = env.event()
        env.process(self._run())

    @property
    def ongoing(self) -> int:
        """Requests that are here."""
        return len(self._inboxes)

    @property
    def step_s(self) -> float:
        """Seconds of computing from one step to the next: in between, requests are told their progress."""
        step = self._costs.seconds_of_step(self._costs.slots - self._free, len(self._captions))
        return step * (1 + self._costs.progress_s / PROGRESS_S)

    @property
    def tokens_per_step(self) -> float:
        """Image tokens that a step makes of each candidate, on average: more than one where drafts come true."""
        return self._costs.tokens_of_step(self._costs.slots - self._free)

    @property
    def images_per_slot(self) -> float:
        """What the policy of the prior's autoscaling asks for: the tokens left to make for each slot, in images."""
        self._note_progress()
        return self._backlog.slot_steps / self._costs.slots / self._costs.image_tokens

    def sample(self, request: Request, ranking_s: float = 0.0) -> Store:
        """Take up a request, and return where the numbers of its candidates come that have just been finished.

        An exception may come instead: TimeoutError at its deadline, ReplicaLostError if the replica is lost.

        Raises:
            QueueFullError: what is here already leaves it too little time.
        """
        self._advance()
        self._take_up(request, ranking_s)
        inbox = self._inboxes[request.id] = Store(self._env)
        self._turns.add(ScheduledRequest(request, self._costs.image_tokens))
        self._admit()
        return inbox

    def lose(self, noticed_s: float) -> None:
        """Be lost, with all requests; who waits for them notices so many seconds later."""
        inboxes = list(self._inboxes.values())
        self._inboxes.clear()
        self._running.clear()
        for inbox in inboxes:
            self._env.process(_tell_late(self._env, inbox, noticed_s))

    def _take_up(self, request: Request, ranking_s: float) -> None:
        try:
            self._backlog.check(request, self._env.now, ranking_s)
        except QueueFullError:  # by the progress of a while ago it refuses too many, and never too few
            self._note_progress()
            self._backlog.check(request, self._env.now, ranking_s)
        self._backlog.add(request)

    def _note_progress(self) -> None:
        """Tell the backlog how far requests are, as the service does at every step."""
        self._advance()
        left: Counter[ScheduledRequest] = Counter()
        for group in self._running:
            left[group.scheduled] += group.candidates * math.ceil(group.end - self._tokens - NEARLY)
        for scheduled, tokens in left.items():
            if scheduled.request.id in self._inboxes:
                waiting = len(scheduled.waiting) * self._costs.image_tokens
                self._backlog.update(scheduled.request.id, waiting + tokens)

    def _run(self) -> ProcessGenerator:
        while True:
            yield self._wake
            self._device.occupy(self._costs.cores)
            while self._running:
                steps = (self._running[0].end - self._tokens) / self.tokens_per_step
                yield self._device.after(self._clock - self._device.clock + steps * self.step_s)
                self._advance()
                self._finish()
                self._admit()
            self._device.release(self._costs.cores)
            self._wake = self._env.event()

    def _advance(self) -> None:
        """Count the image tokens since the last look; of an engine without work there are none."""
        clock, now = self._device.clock, self._env.now
        self.told += (now - self._told_at) / PROGRESS_S / max(1, self.ongoing)
        self._told_at = now
        if not self._running:
            self._tokens, self._clock, self._since = 0.0, clock, now
        elif clock > self._clock:
            steps = (clock - self._clock) / self.step_s
            self._backlog.note_steps((now - self._since) / steps, steps, self.tokens_per_step)
            self._tokens += steps * self.tokens_per_step
            self._clock, self._since = clock, now

    def _admit(self) -> None:
        """Give the free slots, from the next image token on, to those whose turn it is."""
        admitted: Counter[ScheduledRequest] = Counter()
        while self._free and (scheduled := self._turns.next(self._slots_in_use)):
            if scheduled.request.deadline <= self._env.now:
                self._expire(scheduled)
                continue
            self._turns.take(scheduled)
            self._free -= 1
            self._slots_in_use[scheduled.request.client] += 1
            admitted[scheduled] += 1
        begin = math.ceil(self._tokens - NEARLY)
        for scheduled, candidates in admitted.items():
            self._begin(_Group(scheduled, candidates, begin + self._costs.image_tokens))
        if self._running and not self._wake.triggered:
            self._wake.succeed()

    def _begin(self, group: _Group) -> None:
        text = group.scheduled.request.text
        if text not in self._captions:
            self._clock += self._costs.prefill_s
        self._captions[text] += 1
        self._groups[group.scheduled] += 1
        self._running.append(group)

    def _finish(self) -> None:
        """Hand out the candidates that have all their tokens, and free their slots."""
        while self._running and self._running[0].end <= self._tokens + NEARLY:
            group = self._running.popleft()
            scheduled, request = group.scheduled, group.scheduled.request
            self._free += group.candidates
            self._slots_in_use[request.client] -= group.candidates
            _count_down(self._captions, request.text)
            _count_down(self._groups, scheduled)
            scheduled.tokens_done += group.candidates * self._costs.image_tokens
            if request.deadline <= self._env.now:
                self._expire(scheduled)
            elif request.id in self._inboxes:
                self._inboxes[request.id].put(group.candidates)
                if scheduled.tokens_done == scheduled.tokens_total:
                    self._forget(request.id)

    def _expire(self, scheduled: ScheduledRequest) -> None:
        """End a request whose deadline has passed, if that has not been done."""
        if scheduled in self._turns:
            self._turns.remove(scheduled)
        if inbox := self._inboxes.get(scheduled.request.id):
            inbox.put(TimeoutError())
            self._forget(scheduled.request.id)

    def _forget(self, request_id: str) -> None:
        del self._inboxes[request_id]
        self._backlog.remove(request_id)


def _tell_late(env: Environment, inbox: Store, after_s: float) -> ProcessGenerator:
    """Tell after a while that the replica is lost."""
    yield env.timeout(after_s)
    yield inbox.put(ReplicaLostError())


def _count_down(counts: Counter[Any], key: object) -> None:
    """Count one less of a key, which is forgotten at 0."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
