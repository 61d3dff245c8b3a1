"""A cluster on this machine whose every node, the head too, can be lost and come back."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from t2i.cluster import STARTS_TOO_SLOWLY
from tests.cluster.machines import Machine, Machines
from tests.cluster.provider import HEAD, HEAD_TAGS, autoscaler_config, start_node
from tests.processes import ROOT
from tests.t2i.storage.seaweed import free_ports
from tests.waiting import wait_until

ATTEMPTS = 5

STARTED = "Ray runtime started"
"""What ``ray start`` prints once its node is there."""

PATIENCE_S = 300.0
"""How long a dashboard may take to start on a busy machine."""


class Cluster:
    """A head that runs nothing of users, and nodes that come by hand or, with ``node_types``, by Ray's autoscaler.

    What the head knows of the cluster lies in a RocksDB, so that another head goes on with it. Everybody needs a token.

    Args:
        node_types: what the autoscaler may start: by name ``resources``, ``min_workers`` and ``max_workers``.
        idle_s: after how long it gives back a node that nothing runs on.
    """

    def __init__(self, node_types: Mapping[str, Mapping[str, Any]] | None = None, idle_s: float = 10.0) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cluster-"))  # not pytest's: the names of sockets have to be short
        self.machines = Machines(self._folder / "machines")
        self._ports = free_ports(4)
        self._token = secrets.token_hex(32)
        self.address, self.dashboard = (f"127.0.0.1:{port}" for port in self._ports[:2])
        self._config = self._folder / "autoscaler.json"
        config = autoscaler_config(self._folder / "machines", self.address, node_types or {}, idle_s)
        self._config.write_text(json.dumps(config))
        self.head = self.start_head()

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the cluster is started with."""
        return os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # for so long nodes wait for another head
        }

    @property
    def user(self) -> dict[str, str]:
        """The environment in which a user types: it has the addresses as well."""
        addresses = {"RAY_ADDRESS": self.address, "RAY_API_SERVER_ADDRESS": f"http://{self.dashboard}"}
        return self.environment | addresses | {"RAY_DASHBOARD_ADDRESS": f"http://{self.dashboard}"}

    def start_head(self) -> Machine:
        """Start the head, or one in its place, and wait until the dashboard answers."""
        port, dashboard, agent, client = self._ports
        ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        more = [f"--ray-client-server-port={client}", "--num-cpus=0", "--object-store-memory=150000000"]
        folders = [f"--temp-dir={self._folder / 'ray'}", f"--autoscaling-config={self._config}"]
        words = ["ray", "start", "--head", "--block", "--disable-usage-stats", *ports, *more, *folders]
        settings = {
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(self._folder / "gcs"),
            "RAY_enable_autoscaler_v2": "1",
            "RAY_NODE_TYPE_NAME": HEAD,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "AUTOSCALER_METRIC_PORT": "0",
        }
        # A file that is on this machine, and would not be on another: where it is, Ray takes a node for the old head.
        (self._folder / "ray" / "ray_current_cluster").unlink(missing_ok=True)
        self.head = self._started(partial(self.machines.start, words, self.environment | settings, HEAD_TAGS))
        wait_until(self.is_controlled, PATIENCE_S)
        return self.head

    def add_node(self, cpus: int) -> Machine:
        """Start a node by hand, and wait until it has joined."""
        return self._started(partial(start_node, self.machines, self.address, cpus, {}, self.environment))

    def drain(self, machine: Machine, deadline_s: int) -> None:
        """Tell the cluster what a provider of spot machines tells: that this one ends after so many seconds."""
        reason = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
        deadline = f"--deadline-remaining-seconds={deadline_s}"
        self.run("ray", "drain-node", f"--address={self.address}", f"--node-id={machine.name}", *reason, deadline)

    def run(self, *words: str) -> str:
        """Run a command as a user does, and return what it prints.

        Raises:
            CalledProcessError: it failed.
        """
        return subprocess.run(words, env=self.user, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    def ask(self, path: str, body: object = None, method: str = "GET") -> Any:
        """Return what the dashboard answers.

        Raises:
            OSError: it does not answer, or refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = Request(f"http://{self.dashboard}{path}", data, headers, method=method)
        with urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def is_controlled(self) -> bool:
        """Whether the head answers."""
        with suppress(OSError):
            return bool(self.ask("/api/version"))
        return False

    def nodes(self) -> list[Machine]:
        """The machines that run, but for heads."""
        return [machine for machine in self.machines.running() if HEAD_TAGS.items() - machine.tags.items()]

    def alive(self) -> set[str]:
        """The names of the nodes that the head takes for alive; heads are among them.

        Raises:
            OSError: there is no head.
        """
        told = [node["raylet"] for node in self.ask("/nodes?view=summary")["data"]["summary"]]
        return {node["nodeId"] for node in told if node["state"] == "ALIVE"}

    def close(self) -> None:
        """End all of it."""
        self.machines.kill(self.head)  # first: it would start others
        while left := self.machines.running():
            for machine in left:
                self.machines.kill(machine)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self, start: Callable[[], Machine]) -> Machine:
        """Start a machine, with other tries where this one is too busy for the 30 seconds that Ray takes for it."""
        for _ in range(ATTEMPTS):
            machine = start()
            log = self.machines.log(machine.name)
            while machine in self.machines.running():
                if STARTED in log.read_text():
                    return machine
                time.sleep(0.1)
            assert STARTS_TOO_SLOWLY in log.read_text(), log.read_text()
        raise AssertionError(log.read_text())


@contextmanager
def running_cluster(**settings: Any) -> Iterator[Cluster]:
    """A cluster while the block runs."""
    cluster = Cluster(**settings)
    try:
        yield cluster
    finally:
        cluster.close()
