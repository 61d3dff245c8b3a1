"""Load on a service by locust, in a process of its own."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

USERS = Path(__file__).with_name("locust_users.py")
ANSWER, FIRST_PREVIEW, REFUSAL = "answer", "first preview", "refusal"


@dataclass(frozen=True)
class Counted:
    """What locust counted in ``seconds``: its rows of statistics by their names."""

    seconds: float
    rows: dict[str, dict[str, str]]

    def count(self, name: str) -> int:
        """Return how often this was seen."""
        return int(self.rows[name]["Request Count"]) if name in self.rows else 0

    def per_second(self, name: str) -> float:
        """Return how often this was seen a second."""
        return self.count(name) / self.seconds

    def seconds_of(self, name: str, percent: int) -> float:
        """Return a percentile of the time that this took; NaN if it was not seen."""
        return int(self.rows[name][f"{percent}%"]) / 1000 if name in self.rows else float("nan")

    @property
    def failures(self) -> str:
        """What was neither answered nor refused, in words."""
        failed = {name: self.count(name) for name in self.rows if name not in (ANSWER, FIRST_PREVIEW, REFUSAL)}
        return ", ".join(f"{count} {name}" for name, count in failed.items()) or "none"


def load(address: str, user: str, users: int, seconds: float, uncounted: float, **options: object) -> Counted:
    """Let ``users`` of a class of locust_users.py ask for a while, of which the first seconds are not counted.

    ``options`` are those that the class knows, such as ``rate``, ``candidates``, ``deadline``.
    """
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    length = ["--run-time", f"{seconds + uncounted}s", "--uncounted", str(uncounted), "--exit-code-on-error", "0"]
    many = ["--users", str(users), "--spawn-rate", str(users), "--host", address]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "locust", "-f", str(USERS), user, "--headless", "--csv", f"{folder}/counted"]
        quiet = ["--only-summary", "--loglevel", "ERROR"]
        subprocess.run([*command, *many, *length, *quiet, *words], check=True, stdout=subprocess.DEVNULL)
        with Path(folder, "counted_stats.csv").open(newline="") as file:
            rows = {row["Name"]: row for row in csv.DictReader(file)}
    del rows["Aggregated"]
    return Counted(seconds, rows)
