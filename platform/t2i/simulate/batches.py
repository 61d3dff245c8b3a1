"""A replica of decoder or reranker: images of concurrent calls share batches."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from simpy import Environment, Event
from simpy.events import ProcessGenerator

from t2i.serve.replicas.batches import WAIT_S
from t2i.simulate.costs import BatchCosts
from t2i.simulate.device import Device
from t2i.simulate.outcomes import ReplicaLostError


@dataclass(eq=False)
class _Call:
    images_left: int
    done: Event


class BatchReplica:
    """Computes batches one after the other; one that is not full waits for a moment."""

    def __init__(self, env: Environment, costs: BatchCosts, device: Device) -> None:
        self._env, self._costs, self._device = env, costs, device
        self._waiting: deque[_Call] = deque()
        self._calls: dict[_Call, None] = {}  # a set that keeps its order
        self._wake = env.event()
        env.process(self._run())

    @property
    def ongoing(self) -> int:
        """Calls that are here."""
        return len(self._calls)

    def compute(self, images: int) -> Event:
        """Return the event of a call's images being computed; it fails with ReplicaLostError."""
        call = _Call(images, self._env.event())
        self._calls[call] = None
        self._waiting.append(call)
        if not self._wake.triggered:
            self._wake.succeed()
        return call.done

    def lose(self, noticed_s: float) -> None:
        """Be lost, with all calls; who waits for them notices so many seconds later."""
        for call in self._calls:
            self._env.process(_fail_late(self._env, call.done, noticed_s))
        self._calls.clear()
        self._waiting.clear()

    def _run(self) -> ProcessGenerator:
        while True:
            yield self._wake
            while self._waiting:
                if sum(call.images_left for call in self._waiting) < self._costs.size:
                    yield self._env.timeout(WAIT_S)
                images, completed = self._fill()
                seconds = self._costs.batch_s + images * self._costs.image_s
                yield from self._device.compute(seconds, self._costs.cores)
                for call in completed:
                    if call in self._calls:  # else it has been lost
                        del self._calls[call]
                        call.done.succeed()
            self._wake = self._env.event()

    def _fill(self) -> tuple[int, list[_Call]]:
        """Return how many images the next batch has, and the calls of which these are the last."""
        room, completed = self._costs.size, []
        while room and self._waiting:
            call = self._waiting[0]
            taken = min(room, call.images_left)
            room, call.images_left = room - taken, call.images_left - taken
            if not call.images_left:
                completed.append(self._waiting.popleft())
        return self._costs.size - room, completed


def _fail_late(env: Environment, done: Event, after_s: float) -> ProcessGenerator:
    """Let a call fail after a while."""
    yield env.timeout(after_s)
    done.fail(ReplicaLostError())
