"""Compare the ratios of the newest ``make bench`` with those that were recorded, and name what fell.

    python jobs/benchmarks/bench_check.py                                                           (make bench-check)

A ratio is the speed of one thing beside that of another, timed in turn. Exits with 1 if any fell by more than ``fall``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError
from models.settings import setting
from ratios import Ratios, load
from t2i.config import run_job


@dataclass
class BenchCheck:
    """What is compared with what."""

    result: str = setting("runs/bench.json", "what `make bench` has measured", path="read")
    recorded: str = setting("jobs/benchmarks/recorded.json", "what it is compared with", path="read")
    fall: float = setting(0.1, "part of a ratio by which it may be lower than recorded", above=0, below=1)


def main(config: BenchCheck) -> None:
    """Print what fell and what was not measured, and a summary; exit with 1 if anything fell."""
    result = read("result", config.result, "make bench")
    recorded = read("recorded", config.recorded, "make bench RECORD=1")
    if result.machine.kind != recorded.machine.kind:
        raise UserError(
            f"recorded is of {recorded.machine.kind}, result of {result.machine.kind}, whose ratios are others: "
            "run `make bench RECORD=1` here with the code that you want to compare with."
        )
    compared = recorded.ratios.keys() & result.ratios.keys()
    fell = [name for name in sorted(compared) if result.ratios[name] < (1 - config.fall) * recorded.ratios[name]]
    for name in fell:
        print(f"fell: {described(name, recorded, result)}")
    for name in sorted(recorded.ratios.keys() - compared):
        print(f"not measured: {name}")
    of_commits = f"{result.machine.commit} beside {recorded.machine.commit}"
    print(f"{of_commits}: of {len(compared)} ratios {len(fell)} fell by more than {config.fall:.0%}.")
    if fell:
        sys.exit(1)


def read(field: str, path: str, command: str) -> Ratios:
    """Return the ratios in the file of a setting, which ``command`` writes.

    Raises:
        UserError: there is no such file.
    """
    if not Path(path).is_file():
        raise UserError(f"{field} is {path}, which does not exist: run `{command}` first.")
    return load(Path(path))


def described(name: str, recorded: Ratios, result: Ratios) -> str:
    """Return a ratio in words: what it was and is, and the change."""
    before, now = recorded.ratios[name], result.ratios[name]
    return f"{name}: {before:.3g} -> {now:.3g} ({now / before - 1:+.0%})"


if __name__ == "__main__":
    run_job(main, BenchCheck, "bench_check")
