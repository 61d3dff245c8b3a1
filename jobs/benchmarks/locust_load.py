"""Load on a service by locust, in a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

USERS = Path(__file__).with_name("locust_users.py")
ANSWER, FIRST_PREVIEW, REFUSAL = "answer", "first preview", "refusal"


@dataclass(frozen=True)
class Counted:
    """What locust counted in ``seconds``: by name, how often each time in milliseconds was seen."""

    seconds: float
    times: dict[str, dict[str, int]]

    def count(self, name: str) -> int:
        """Return how often this was seen."""
        return sum(self.times.get(name, {}).values())

    def per_second(self, name: str) -> float:
        """Return how often this was seen a second."""
        return self.count(name) / self.seconds

    def seconds_of(self, name: str, percent: int) -> float:
        """Return a percentile of the time that this took; NaN if it was not seen."""
        if not self.count(name):
            return float("nan")
        times = np.array([float(time) for time in self.times[name]])
        repeated = np.repeat(times, list(self.times[name].values()))
        return float(np.percentile(repeated, percent)) / 1000

    @property
    def failures(self) -> str:
        """What was neither answered nor refused, in words."""
        failed = {name: self.count(name) for name in self.times if name not in (ANSWER, FIRST_PREVIEW, REFUSAL)}
        return ", ".join(f"{count} {name}" for name, count in failed.items() if count) or "none"


def load(address: str, user: str, users: int, seconds: float, uncounted: float, **options: object) -> Counted:
    """Let ``users`` of a class of locust_users.py ask for a while, of which the first seconds are not counted.

    ``options`` are those that the class knows, such as ``rate``, ``candidates``, ``deadline``.

    Raises:
        RuntimeError: locust ended with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        counted = Path(folder, "counted")
        _locust(address, user, users, seconds + uncounted, uncounted=uncounted, json_file=counted, **options)
        entries = json.loads(counted.with_suffix(".json").read_text())
    return Counted(seconds, {entry["name"]: entry["response_times"] for entry in entries})


def replay(address: str, moments: Sequence[float], limit_s: float, **options: object) -> list[tuple[float, float, str]]:
    """Ask at given moments, in seconds; return the moment, the seconds and the end of each request, as they ended.

    The end is ``ANSWER``, ``REFUSAL`` or the name of gRPC's status. ``limit_s`` is how long all of it takes at most.

    Raises:
        RuntimeError: locust ended with an error, or before all requests had ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, record = Path(folder, "moments.json"), Path(folder, "record.json")
        asked.write_text(json.dumps(list(moments)))
        _locust(address, "Scheduled", 1, limit_s, moments=asked, record=record, **options)
        if not record.exists():
            raise RuntimeError(f"not all requests had ended after {limit_s:.0f} s.")
        return [tuple(entry) for entry in json.loads(record.read_text())]


def _locust(address: str, user: str, users: int, seconds: float, **options: object) -> None:
    """Run locust; ``options`` are its own and those of locust_users.py."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    length = ["--run-time", f"{math.ceil(seconds)}s", "--exit-code-on-error", "0"]
    many = ["--users", str(users), "--spawn-rate", str(users), "--host", address]
    command = [sys.executable, "-m", "locust", "-f", str(USERS), user, "--headless"]
    done = subprocess.run([*command, *many, *length, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
