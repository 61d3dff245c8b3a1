"""A service that is broken on purpose: how much of it, what is seen of it from outside, and clients that compare."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from t2i.client import Client
from t2i.serve.config import PriorReplicaConfig, ReplicaConfig, ServeConfig
from t2i.serve.running import model_apps
from tests import waiting
from tests.processes import descendants

REPLICAS = 2
CONTROLLER = "ray::ServeController"
DEPLOYMENTS = ("prior", "decoder", "reranker", "gateway", "http")

Known = Mapping[str, list[bytes]]
"""Captions, and the images that each gives."""

CAPTIONS = ("a red taco", "a blue cat")

wait_until = partial(waiting.wait_until, limit_s=600.0)


def two_of_each(run: Path) -> ServeConfig:
    """Settings of a service with two replicas of all that may have two."""
    stage: dict[str, Any] = {"min_replicas": REPLICAS, "max_replicas": REPLICAS, "cpus": 0.25}
    prior = PriorReplicaConfig(dtype="float32", slots=4, threads=1, **stage)
    others = {"decoder": ReplicaConfig(**stage), "reranker": ReplicaConfig(**stage)}
    return ServeConfig(str(run), port=0, prior=prior, drain_s=1.0, **others)  # type: ignore[arg-type]


@dataclass(frozen=True)
class SoakService:
    """Where a service of this process's Ray answers, the directory of its run, and the images that it ought to make."""

    grpc: str
    http: str
    run: Path
    known: dict[str, list[bytes]] = field(default_factory=dict)

    def processes(self, deployment: str) -> list[int]:
        """The processes of a deployment's replicas."""
        return _titled(rf"ray::.*\bServeReplica:[^:]+:{deployment}\b")

    def controller(self) -> int:
        """The process of Serve's controller."""
        (process,) = _titled(CONTROLLER)
        return process

    def megabytes(self) -> dict[str, float]:
        """The memory that each process of the service has for itself, by its name and number."""
        pids = {f"{name} {pid}": pid for name in DEPLOYMENTS for pid in self.processes(name)}
        pids[f"controller {self.controller()}"] = self.controller()
        return {name: psutil.Process(pid).memory_full_info().uss / 1e6 for name, pid in pids.items()}

    def engines(self) -> dict[int, dict[str, int]]:
        """Steps made and requests inside, by the process of each of the prior's replicas."""
        from ray import serve

        (app,) = model_apps()
        prior = serve.get_deployment_handle("prior", app)
        seen: dict[int, dict[str, int]] = {}
        while len(seen) < REPLICAS:  # which of them answers is chance
            told = prior.activity.remote().result()
            seen[told["process"]] = told
        return seen

    def is_idle(self) -> bool:
        """Whether no engine has a request."""
        return not any(engine["requests"] for engine in self.engines().values())

    def is_whole(self) -> bool:
        """Whether every process is there, and health says so."""
        wanted = dict.fromkeys(DEPLOYMENTS, REPLICAS)
        there = {name: len(self.processes(name)) for name in wanted}
        with Client(self.grpc) as client:
            return there == wanted and bool(_titled(CONTROLLER)) and client.is_serving()

    def ask(self, client: Client, caption: str) -> list[bytes]:
        """The images for a caption, always of the same seed."""
        answer = client.generate(caption, candidates=4, keep=4, seed=7, timeout=120)
        return [image.data for image in answer.images]

    def learn(self, client: Client) -> Known:
        """The images of the model as it is now."""
        return {caption: self.ask(client, caption) for caption in CAPTIONS}


def _titled(title: str) -> list[int]:
    return [pid for pid, command in descendants(os.getpid()).items() if re.match(title, command)]


@dataclass
class Answers:
    """What clients got: how many right ones, the longest wait, and everything else by its words."""

    right: int = 0
    slowest_s: float = 0.0
    lost: Counter[str] = field(default_factory=Counter)

    def wait_for(self, more: int) -> None:
        """Wait for so many more right answers."""
        wanted = self.right + more
        wait_until(lambda: self.right >= wanted)


@contextmanager
def under_load(service: SoakService, clients: int = 3, other: Known | None = None) -> Iterator[Answers]:
    """While the block runs, clients ask for known images again and again; at its end their last answers are awaited.

    ``other`` images are right as well: those of another version of the model.
    """
    answers, ending, lock = Answers(), threading.Event(), threading.Lock()
    known = [service.known, other or service.known]
    threads = [threading.Thread(target=_ask, args=(service, known, answers, ending, lock)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def _ask(
    service: SoakService, known: list[Known], answers: Answers, ending: threading.Event, lock: threading.Lock
) -> None:
    with Client(service.grpc) as client:
        while not ending.is_set():
            for caption in CAPTIONS:
                begin = time.monotonic()
                try:
                    images = service.ask(client, caption)
                    result = "" if images in [each[caption] for each in known] else "other images"
                except Exception as error:
                    result = f"{type(error).__name__}: {error}"
                with lock:
                    answers.slowest_s = max(answers.slowest_s, time.monotonic() - begin)
                    answers.lost.update([result] if result else [])
                    answers.right += not result
