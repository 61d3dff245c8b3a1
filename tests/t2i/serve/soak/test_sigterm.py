"""SIGTERM of `t2i serve` while it works."""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from t2i.client import Client, GeneratedImage, GenerationProgress, ServiceError, Summary
from tests.conftest import StartProcess
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(3600)]
CANDIDATES = 256


def test_sigterm_finishes_what_runs_and_refuses_what_comes(
    run_directory: Path, start_process: StartProcess, tmp_path: Path, note: Note
) -> None:
    words = [
        "serve",
        "--run",
        str(run_directory),
        "--port",
        "0",
        "prior.slots=4",
        "prior.threads=1",
        "prior.dtype=float32",
        "ray.cpus=2",
    ]
    log = tmp_path / "log"
    process = start_process(
        [sys.executable, "-c", "from t2i.serve.cli import main; main()", *words], stdout=log.open("w")
    )
    wait_until(lambda: "\nserving " in "\n" + log.read_text())
    (line,) = (line for line in log.read_text().splitlines() if line.startswith("serving "))
    with Client(line.split()[-1]) as client, ThreadPoolExecutor(1) as thread:
        wait_until(client.is_serving)
        started = psutil.Process(process.pid).children(recursive=True)
        events = client.generate_stream("a red taco", candidates=CANDIDATES, keep=2, seed=7)
        first = next(event for event in events if isinstance(event, GenerationProgress) and event.tokens_done)
        process.send_signal(signal.SIGTERM)
        refused = thread.submit(wait_until, lambda: is_refused(client.address))
        rest = list(events)
        refused.result()
    assert first.tokens_done < CANDIDATES * 64 / 2
    assert [type(event) for event in rest[-3:]] == [GeneratedImage, GeneratedImage, Summary]
    assert process.wait(timeout=60) == 0
    wait_until(lambda: not any(map(is_running, started)))
    note("SIGTERM of a service that draws", "1", "the images came; others were refused; exit code 0, nothing left")


def is_refused(address: str) -> bool:
    """Whether a new client is refused."""
    try:
        with Client(address) as client:
            client.generate("a blue cat", timeout=5.0)
    except ServiceError:
        return True
    return False


def is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
