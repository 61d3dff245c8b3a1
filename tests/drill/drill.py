"""What is done to the cluster, one after the other, and what is waited for each time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

from tests import waiting
from tests.cluster.cluster import Cluster
from tests.cluster.jobs import Job
from tests.cluster.machines import Machine
from tests.cluster.service import answering
from tests.drill.load import Load
from tests.drill.settings import BATCH, BURST, CORE, PAIR
from tests.drill.submission import run_jobs
from tests.drill.timeline import Event, Timeline
from tests.soak import scaled

wait_until = partial(waiting.wait_until, limit_s=900.0)

AWAY_S = 20.0
"""For how long there is no head: about so long Kubernetes takes to start another pod of an image that is there."""

NOTICE_S = 60
"""How long before its end a spot machine is told of it: AWS gives 120 s, others 30."""

STEADY = 0.3
"""How much is asked while there is other work, as a share of what one replica of the prior bears."""

PEAK = 10
"""How many times what one replica of the prior bears is asked last, to make the service grow."""


class Drill:
    """A cluster, its service and jobs, to which things are done; ``rate`` is what one replica of the prior bears."""

    def __init__(self, cluster: Cluster, load: Load, timeline: Timeline, rate: float) -> None:
        self._cluster, self._load, self._timeline, self._rate = cluster, load, timeline, rate

    def run(self, quiet: Sequence[Job], disturbed: Sequence[Job]) -> None:
        """Run the jobs in peace, then again while nodes and head are lost; last let the load grow and end."""
        self._load.rate = STEADY * self._rate
        run_jobs(self._cluster, quiet, "quiet", self._timeline)
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(run_jobs, self._cluster, disturbed, "disturbed", self._timeline)
            encode, train, evaluate = disturbed
            for kill in range(scaled(2)):
                self._wait_for(work, encode, kill)
                self._lose("node of a job lost: encoding", self._busiest("MapWorker"))
            self._wait_for(work, train, 0)
            self._take("spot node of a job taken: training", self._busiest("RayTrainWorker"))
            for kill in range(scaled(2)):
                self._wait_for(work, evaluate, kill)
                self._lose_head("head lost: evaluation, service")
            work.result()
        wait_until(lambda: not self._of_type(BATCH))  # replicas would move there, and keep it
        self._lose("node of the service lost", self._of_type(CORE)[0])
        self._take("spot node of the service taken", self._of_type(CORE)[0])
        self._grow()
        self._shrink()

    def _lose(self, name: str, node: Machine) -> None:
        """Kill a node without a word."""
        self._do(name, partial(self._cluster.machines.kill, node), self._is_whole, lambda: not self._is_known(node))

    def _take(self, name: str, node: Machine) -> None:
        """Tell the cluster that a node is about to end, and end it then."""

        def take() -> None:
            end = time.monotonic() + NOTICE_S
            self._cluster.drain(node, NOTICE_S)
            while time.monotonic() < end:
                time.sleep(0.1)
            self._cluster.machines.kill(node)

        self._do(name, take, self._is_whole)

    def _lose_head(self, name: str) -> None:
        """Kill the head, and start another in its place after a while."""

        def lose() -> None:
            self._cluster.machines.kill(self._cluster.head)
            time.sleep(AWAY_S)
            self._cluster.start_head()

        self._do(name, lose, self._is_whole)

    def _grow(self) -> None:
        """Ask for more than one replica of the prior bears, until there are two."""
        self._load.rate = PEAK * self._rate
        self._do(
            f"{PEAK} times the load", lambda: None, lambda: answering(self._cluster)["prior"] == 2, self._has_grown
        )

    def _shrink(self) -> None:
        """Ask for nothing, until nothing is there but what always is."""
        self._load.rate = 0.0
        self._do("no load", lambda: None, lambda: [*map(type_of, self._cluster.nodes())] == [CORE] * 2)

    def _do(
        self,
        name: str,
        act: Callable[[], object],
        whole: Callable[[], bool],
        noticed: Callable[[], bool] | None = None,
    ) -> None:
        """Do something; note when the cluster has noticed it, if that can be seen, and when all is there again."""
        print(f"{self._timeline.now():6.0f} s  {name}", flush=True)
        at, seen = self._timeline.now(), None
        act()
        if noticed:
            wait_until(noticed)
            seen = self._timeline.now()
        wait_until(whole)
        self._timeline.events.append(Event(name, at, seen, self._timeline.now()))

    def _wait_for(self, work: Future[None], job: Job, pieces: int) -> None:
        """Wait until a job has finished more than some pieces of its work."""
        wait_until(lambda: work.done() or job.finished() > pieces)
        assert not work.done(), f"{job.name} was too quick to be disturbed, or has failed: {work.result()}"

    def _busiest(self, actor: str) -> Machine:
        """Return the node with most actors whose titles hold a word."""
        return max(self._cluster.nodes(), key=lambda node: sum(actor in title for title in node.commands().values()))

    def _of_type(self, kind: str) -> list[Machine]:
        return [node for node in self._cluster.nodes() if type_of(node) == kind]

    def _is_whole(self) -> bool:
        """Whether Serve's controller answers and has all replicas that it should have."""
        return answering(self._cluster) >= Counter(PAIR | {"prior": 1})

    def _is_known(self, node: Machine) -> bool:
        """Whether the head takes a node for alive."""
        return node.name in self._cluster.alive()

    def _has_grown(self) -> bool:
        """Whether there is a second node for the prior, or one that is starting."""
        return len(self._of_type(BURST)) > 1


def type_of(node: Machine) -> str:
    """Return a node's type in the autoscaler's configuration."""
    return node.tags[TAG_RAY_USER_NODE_TYPE]
