"""Clients of a service for locust: Poisson arrivals, however slow the answers are; or some that ask again and again.

bench_serve.py runs this; by hand:

    locust -f jobs/benchmarks/locust_users.py Arrivals --headless -u 4 -t 30s -H 127.0.0.1:50051 --rate 5

Entries of locust's statistics: ``answer`` and ``first preview``, ``refusal`` (RESOURCE_EXHAUSTED), and all else by its
status, as failures.
"""

from __future__ import annotations

import json
import random
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import gevent
import grpc
import grpc.experimental.gevent
from locust import User, events, task
from locust.env import Environment

from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.generation_pb2_grpc import GenerationStub

grpc.experimental.gevent.init_gevent()  # after locust's patches, before the first channel

OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
"""Users are other programs, which reach other gateways behind the port; gRPC would give them all one connection."""


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--rate", type=float, default=1.0, help="Arrivals: requests a second, of all users together")
    parser.add_argument("--candidates", type=int, default=1, help="images sampled for each request")
    parser.add_argument("--preview-rows", type=int, default=0, help="ask for previews after every so many rows")
    parser.add_argument("--deadline", type=float, default=60.0, help="of a request, in seconds")
    parser.add_argument("--ca", default="", help="PEM file of the authority whose certificate the service has")
    parser.add_argument("--captions", type=int, default=1, help="different captions that are asked for")
    parser.add_argument("--moments", default="", help="Scheduled: JSON file of the seconds at which to ask")
    parser.add_argument("--record", default="", help="Scheduled: JSON file for (moment, seconds, name) of each request")
    parser.add_argument("--uncounted", type=float, default=0.0, help="seconds at the beginning that are not counted")


def _begin_to_count(environment: Environment, **_: object) -> None:
    options: Any = environment.parsed_options
    gevent.spawn_later(options.uncounted, environment.stats.reset_all)


events.init_command_line_parser.add_listener(_add_options)
events.test_start.add_listener(_begin_to_count)


class _Client(User):
    """A program with a connection of its own."""

    abstract = True

    def on_start(self) -> None:
        """Connect."""
        self._options: Any = self.environment.parsed_options
        if self._options.ca:
            credentials = grpc.ssl_channel_credentials(Path(self._options.ca).read_bytes())
            channel = grpc.secure_channel(self.host, credentials, [OWN_CONNECTION])
        else:
            channel = grpc.insecure_channel(self.host, [OWN_CONNECTION])
        self._generate = GenerationStub(channel).GenerateStream

    def _ask(self) -> None:
        """Ask for images of a seed of their own, and tell locust how it went."""
        options, begin, has_preview = self._options, time.perf_counter(), False
        seed, numbers = random.getrandbits(32), {"candidates": options.candidates, "preview_rows": options.preview_rows}
        request = GenerateRequest(caption=f"taco {seed % options.captions}", seed=seed, **numbers)
        try:
            for event in self._generate(request, timeout=options.deadline):
                if event.HasField("preview") and not has_preview:
                    has_preview = True
                    self._tell("first preview", begin)
        except grpc.RpcError as error:
            is_refused = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            self._tell("refusal" if is_refused else error.code().name, begin, None if is_refused else error)
        else:
            self._tell("answer", begin)

    def _tell(self, name: str, begin: float, error: Exception | None = None) -> None:
        milliseconds = 1000 * (time.perf_counter() - begin)
        self.environment.events.request.fire(
            request_type="gRPC", name=name, response_time=milliseconds, response_length=0, exception=error, context={}
        )


class Arrivals(_Client):
    """Asks at random moments, as those do who know nothing of each other."""

    def wait_time(self) -> float:
        """Return the seconds to the next request."""
        return random.expovariate(self._options.rate / self._options.num_users)

    @task
    def arrive(self) -> None:
        """Ask, and do not wait for the answer."""
        gevent.spawn(self._ask)


class Scheduled(_Client):
    """Asks at given moments, however slow the answers are, and records each request; use one of it."""

    def on_start(self) -> None:
        """Connect, and begin."""
        super().on_start()
        self._begin, self._record = time.perf_counter(), list[Any]()
        moments = json.loads(Path(self._options.moments).read_text())
        self._asking = [gevent.spawn_later(moment, self._ask) for moment in moments]

    @task
    def wait(self) -> None:
        """Wait for all answers, and end the run."""
        gevent.joinall(self._asking)
        Path(self._options.record).write_text(json.dumps(self._record))
        self.environment.runner.quit()

    def _tell(self, name: str, begin: float, error: Exception | None = None) -> None:
        super()._tell(name, begin, error)
        self._record.append((begin - self._begin, time.perf_counter() - begin, name))


class Repeating(_Client):
    """Asks again as soon as it has its answer."""

    @task
    def ask(self) -> None:
        """Ask, and wait for the answer."""
        self._ask()
