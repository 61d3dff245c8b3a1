"""A deployment: its replicas, which of them is called, and how they come and go."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Generic, Protocol, TypeVar

from simpy import Environment
from simpy.events import ProcessGenerator


class Replica(Protocol):
    """What a stage knows of its replicas."""

    @property
    def ongoing(self) -> int:
        """Calls that it has."""
        ...

    def lose(self, noticed_s: float) -> None:
        """Be lost, with all calls; who waits for them notices so many seconds later."""
        ...


ReplicaT = TypeVar("ReplicaT", bound=Replica)


class Stage(Generic[ReplicaT]):
    """The replicas of a deployment; ``make`` returns one by its number, which answers ``start_s`` seconds later."""

    def __init__(
        self, env: Environment, make: Callable[[int], ReplicaT], replicas: int, start_s: float, random: Random
    ) -> None:
        self.target = replicas
        self.replicas = [make(number) for number in range(replicas)]
        self._env, self._make, self._start_s, self._random = env, make, start_s, random
        self._next, self._starting = replicas, 0
        self._started = env.event()

    @property
    def held(self) -> int:
        """Replicas that answer or are being started."""
        return len(self.replicas) + self._starting

    def choose(self) -> ReplicaT:
        """Return the less busy one of two replicas chosen at random, as Serve does; there has to be one."""
        first, second = self._random.choice(self.replicas), self._random.choice(self.replicas)
        return first if first.ongoing <= second.ongoing else second

    def ready(self) -> ProcessGenerator:
        """Wait until there is a replica."""
        while not self.replicas:
            yield self._started

    def scale_to(self, target: int) -> None:
        """Want so many replicas: those that lack are started, of too many the newest get no further calls."""
        self.target = target
        del self.replicas[target:]
        while self.held < target:
            self._starting += 1
            self._env.process(self._start())

    def lose(self, part: slice, noticed_s: float, replaced: bool) -> None:
        """Lose a part of the replicas; others are started in their place if they are to be ``replaced``."""
        lost = self.replicas[part]
        self.replicas = [replica for replica in self.replicas if replica not in lost]
        for replica in lost:
            replica.lose(noticed_s)
        self.scale_to(self.target if replaced else len(self.replicas))

    def _start(self) -> ProcessGenerator:
        number, self._next = self._next, self._next + 1
        yield self._env.timeout(self._start_s)
        self._starting -= 1
        if len(self.replicas) < self.target:
            self.replicas.append(self._make(number))
            self._started.succeed()
            self._started = self._env.event()
