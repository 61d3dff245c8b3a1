"""An evaluation killed again and again ends with the bytes and figures of one that nobody touched."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.reranker import CLIPConfig
from tests.conftest import StartProcess
from tests.processes import descendants
from tests.random_run import write_random_run
from tests.soak import scaled

KILLS = scaled(20)
VAL = "jobs/datasets/emoji64/val.parquet"
VICTIMS = ("driver", "actor", "raylet", "worker")


def words(run: Path, out: Path) -> list[str]:
    sets = f"sets=[{{name: val, source: {{path: {VAL}}}}}]"
    sizes = ["captions=32", "candidates=4", "shard=4", "slots=16", "shown=3"]
    pools = ["generate.actors=1", "extract.actors=1", "ray.cpus=2", "ray.object_store_gb=0.3"]
    return [sys.executable, "jobs/coco_eval.py", f"run={run}", f"out={out}", sets, *sizes, *pools]


def shards(out: Path) -> int:
    """Return how many shards are finished."""
    return len([path for path in out.rglob("*.json") if path.parent.name in ("candidates", "drawn", "real")])


def find(job: subprocess.Popen[str], victim: str) -> int | None:
    """Return a random process of the job of one kind; None if there is none now."""
    if victim == "driver":
        return job.pid
    is_victim: dict[str, Callable[[str], bool]] = {
        "actor": lambda command: command.startswith("ray::MapWorker"),
        "raylet": lambda command: command.split(" ")[0].endswith("raylet/raylet"),
        "worker": lambda command: command.startswith("ray::") and "MapWorker" not in command,
    }
    found = [pid for pid, command in descendants(job.pid).items() if is_victim[victim](command)]
    return random.choice(found) if found else None


def content(out: Path) -> dict[str, Any]:
    """Return SHA-256 of every shard by its path, and the figures of the report."""
    records = {str(path.relative_to(out)): json.loads(path.read_text())["sha256"] for path in out.rglob("0*.json")}
    return {"records": records, "sets": json.loads((out / "report.json").read_text())["sets"]}


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_random_kills_change_no_bit(tmp_path: Path, start_process: StartProcess) -> None:
    random.seed(14)
    captions = ["a red circle", "a blue square"] * 9
    clip = CLIPConfig(image_size=32, width=16, hidden=32)
    run = write_random_run(tmp_path / "run", captions, text_length=16, clip=clip)
    untouched, killed = tmp_path / "untouched", tmp_path / "killed"
    assert start_process(words(run, untouched)).wait(timeout=900) == 0

    log = (tmp_path / "log").open("w")
    job = start_process(words(run, killed), stdout=log, stderr=log)
    victims: list[str] = []
    while len(victims) < KILLS:
        before, deadline = shards(killed), time.monotonic() + 240
        while job.poll() is None and shards(killed) <= before and time.monotonic() < deadline:
            time.sleep(0.05)
        if job.poll() == 0:
            break
        if job.poll() is None:
            time.sleep(random.random())
            victim = random.choice(VICTIMS)
            if (pid := find(job, victim)) is None:
                continue
            os.kill(pid, signal.SIGKILL)
            victims.append(victim)
        if victims[-1] in ("driver", "raylet") or job.poll() is not None:
            assert job.wait(timeout=120) != 0
            job = start_process(words(run, killed), stdout=log, stderr=log)
    while job.wait(timeout=900):
        job = start_process(words(run, killed), stdout=log, stderr=log)
    assert len(victims) >= max(1, KILLS // 2), (tmp_path / "log").read_text()[-4000:]
    assert content(killed) == content(untouched)
