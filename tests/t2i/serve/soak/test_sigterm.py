"""SIGTERM of `t2i serve` while it works."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import pytest

from t2i.client import Client, GeneratedImage, GenerationProgress, ServiceError, Summary
from tests.conftest import StartProcess
from tests.processes import descendants
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.soak]
CANDIDATES = 256


def test_sigterm_finishes_what_runs_and_refuses_what_comes(
    run_directory: Path, start_process: StartProcess, note: Note
) -> None:
    words = ["serve", "--run", str(run_directory), "--port", "0", "prior.slots=4", "ray.cpus=2"]
    command = [sys.executable, "-c", "from t2i.serve.cli import main; main()", *words]
    process = start_process(command, stdout=-1)
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("serving"))
    address = line.split()[-1]
    with Client(address) as client, Client(address) as late:
        wait_until(client.is_serving)
        events = client.generate_stream("a red taco", candidates=CANDIDATES, keep=2, seed=7)
        first = next(event for event in events if isinstance(event, GenerationProgress) and event.tokens_done)
        process.send_signal(signal.SIGTERM)
        refused = threading.Thread(target=wait_until, args=(lambda: is_refused(late),))
        refused.start()
        rest = list(events)
        refused.join()
    assert first.tokens_done < CANDIDATES * 64 / 2
    assert [type(event) for event in rest[-3:]] == [GeneratedImage, GeneratedImage, Summary]
    started = descendants(process.pid)
    assert process.wait(timeout=60) == 0
    wait_until(lambda: not (started.keys() & descendants(1).keys() & set(running(started))))
    note("SIGTERM of a service that draws", "1", "the picture came; others were refused; exit code 0, nothing left")


def is_refused(client: Client) -> bool:
    """Whether a new request is refused."""
    try:
        client.generate("a blue cat", timeout=5.0)
    except ServiceError:
        return True
    return False


def running(started: dict[int, str]) -> list[int]:
    """Those processes that still run."""
    return [pid for pid in started if Path(f"/proc/{pid}").exists()]
