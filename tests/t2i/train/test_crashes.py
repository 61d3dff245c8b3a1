"""Workers and drivers killed at random moments: the run's every step is that of a run that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.manifest import file_hash
from t2i.train.checkpoint.run_directory import RunDirectory
from t2i.train.loader.sampler import EpochSampler
from tests.conftest import StartProcess
from tests.soak import scaled
from tests.t2i.storage.faulty_store import FaultyStore
from tests.t2i.train.witnessed import BATCH, ROWS

SCRIPT = Path(__file__).with_name("witnessed.py")
PATIENCE = 300
"""Seconds that a run may take for its next step."""

ALL_KINDS = ["worker", "worker", "worker", "workers", "driver"]


class Run:
    """The script in a process of its own, started again when it was killed."""

    def __init__(self, start_process: StartProcess, directory: Path, steps: int, **options: object) -> None:
        directory.mkdir(exist_ok=True)
        self.start_process, self.directory, self.steps = start_process, directory, steps
        self.options = [f"{name}={value}" for name, value in options.items()]
        self.start()

    def start(self) -> None:
        words = [sys.executable, str(SCRIPT), str(self.directory), str(self.steps), *self.options]
        with (self.directory / "log").open("ab") as log:
            self.driver = self.start_process(words, env={"RAY_worker_niceness": "0"}, stdout=log, stderr=log)

    def count_lines(self) -> int:
        """Lines that workers have witnessed so far."""
        witness = self.directory / "witness"
        return witness.read_bytes().count(b"\n") if witness.exists() else 0

    def wait_for_steps(self, number: int) -> bool:
        """Until ``number`` more lines are there; False if the run came to its end before."""
        until, deadline = self.count_lines() + number, time.monotonic() + PATIENCE
        while self.count_lines() < until:
            if self.driver.poll() is not None:
                assert self.driver.returncode == 0, (self.directory / "log").read_text()[-3000:]
                return False
            assert time.monotonic() < deadline, (self.directory / "log").read_text()[-3000:]
            time.sleep(0.01)
        return True

    def wait(self) -> None:
        """Until the run has come to its end."""
        while self.wait_for_steps(1):
            pass

    def worker_pids(self) -> list[int]:
        """Process ids of this run's training workers."""
        table = subprocess.run(["ps", "-eo", "pid,sid,args"], capture_output=True, text=True, check=True).stdout
        rows = [line.split(maxsplit=2) for line in table.splitlines()[1:]]
        return [int(pid) for pid, sid, args in rows if int(sid) == self.driver.pid and "RayTrainWorker" in args]

    def kill_driver(self) -> None:
        self.driver.send_signal(signal.SIGKILL)
        self.driver.wait()
        self.start()

    def all_lines(self) -> list[dict[str, Any]]:
        """What all workers have witnessed, before and after all kills."""
        return [json.loads(line) for line in (self.directory / "witness").read_text().splitlines()]

    def lines_by_step(self) -> dict[int, set[str]]:
        """Step -> the distinct lines that any worker has witnessed at it."""
        found: dict[int, set[str]] = defaultdict(set)
        for line in (self.directory / "witness").read_text().splitlines():
            found[json.loads(line)["step"]].add(line)
        return dict(found)


def kill(process: int) -> bool:
    """Whether there was such a process to be killed."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_run_killed_again_and_again_is_bit_for_bit_the_one_that_was_not(
    start_process: StartProcess, tmp_path: Path
) -> None:
    steps, kinds = scaled(300), (ALL_KINDS * 4)[: scaled(20)]
    quiet = Run(start_process, tmp_path / "quiet", steps)
    quiet.wait()
    chance = random.Random(0)
    run, kills = Run(start_process, tmp_path / "killed", steps), 0
    while kills < len(kinds) and run.wait_for_steps(chance.randint(5, 30)):
        time.sleep(chance.random() * 0.1)  # between steps, within one, or while a checkpoint is being written
        victims = run.worker_pids()
        chance.shuffle(victims)
        if kinds[kills] == "driver":
            run.kill_driver()
            kills += 1
        else:
            killed = [kill(victim) for victim in (victims if kinds[kills] == "workers" else victims[:1])]
            kills += any(killed)
    assert kills == len(kinds)
    run.wait()
    assert run.lines_by_step() == quiet.lines_by_step()
    assert sorted(run.lines_by_step()) == list(range(steps))
    weights = [file_hash(each.directory / "run/model/weights.safetensors") for each in (quiet, run)]
    assert weights[0] == weights[1]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.soak
def test_a_store_that_is_busy_and_then_away_stops_nothing(
    store: FaultyStore, bucket: str, start_process: StartProcess, tmp_path: Path
) -> None:
    run = Run(start_process, tmp_path / "run", steps=160, run=f"{bucket}/run")
    assert run.wait_for_steps(20)
    store.fail(*["busy"] * 10)
    assert run.wait_for_steps(80)
    with store.away():
        assert run.wait_for_steps(80)
    run.wait()
    taken = Counter(line["step"] for line in run.all_lines())
    assert taken == dict.fromkeys(range(160), 2), "no worker was lost, so none took a step twice"
    directory = RunDirectory(f"{bucket}/run")
    newest = directory.newest_checkpoint()
    assert newest
    assert newest.name == "step_0000160"
    assert directory.final_metrics(160)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.soak
def test_a_lost_node_leaves_fewer_workers_and_the_same_order_of_data(
    start_process: StartProcess, tmp_path: Path
) -> None:
    """Workers on two nodes; one node goes, and what is left goes on alone."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    lost = cluster.add_node(num_cpus=1)
    try:
        run = Run(start_process, tmp_path / "run", steps=120, address=cluster.address, min_workers=1)
        assert run.wait_for_steps(60)
        cluster.remove_node(lost, allow_graceful=False)
        run.wait()
    finally:
        cluster.shutdown()
    lines = run.all_lines()
    assert {line["world"] for line in lines} == {1, 2}
    sampler = EpochSampler([ROWS], BATCH, seed=0)
    for step in range(120):
        expected = np.concatenate([piece.rows for piece in sampler.rows(step)]).tolist()
        alone = [line["rows"] for line in lines if (line["step"], line["world"]) == (step, 1)]
        together = [line["rows"] for line in lines if (line["step"], line["world"]) == (step, 2)]
        assert all(rows == expected for rows in alone)
        assert all(rows in (expected[: BATCH // 2], expected[BATCH // 2 :]) for rows in together)
        assert alone or len(together) >= 2, "a step that was lost half-way is taken again"
