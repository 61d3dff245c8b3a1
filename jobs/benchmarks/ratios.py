"""Ratios of what benchmarks time in turn, in a file together with the machine: what ``make bench`` leaves behind.

Times say little: the next machine is another one. How many times as fast as its neighbour something is stays nearly the
same on machines of a kind, so that bench_check.py can tell when code has become slower.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from models.processor import cpu_name, processor

VARIABLE = "BENCH_RESULT"
"""Environment variable: the file to keep ratios in. Without it, as in a run by hand with other sizes, none are kept."""

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "sve", "bf16")
"""What a processor may have that makes ratios others: instructions for vectors and for products in bf16."""


@dataclass(frozen=True)
class Machine:
    """Where ratios were measured: ``flags`` are those of FLAGS that its processor has."""

    cpu: str
    cores: int
    flags: list[str]
    torch: str
    commit: str

    @property
    def kind(self) -> str:
        """What two machines have to share for their ratios to be compared."""
        return f"{self.cores} cores with {', '.join(self.flags) or 'none of ' + ', '.join(FLAGS)}"


@dataclass(frozen=True)
class Ratios:
    """The speed of each thing as a multiple of that of the first in its table, and the machine."""

    machine: Machine
    ratios: dict[str, float]


def keep(table: str, seconds: Mapping[str, float]) -> None:
    """Add a table's ratios, the first's seconds by each other's, to the file that ``BENCH_RESULT`` names."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    file, (first, *others) = Path(name), seconds
    before = load(file).ratios if file.exists() else {}
    new = {f"{table}: {other} beside {first}": seconds[first] / seconds[other] for other in others}
    file.write_text(json.dumps(asdict(Ratios(this_machine(), before | new)), indent=1) + "\n")


def load(file: Path) -> Ratios:
    """Return the ratios in a file that :func:`keep` has written."""
    stored = json.loads(file.read_text())
    return Ratios(Machine(**stored["machine"]), stored["ratios"])


def this_machine() -> Machine:
    """Return this machine, with the commit of this checkout; ``-dirty`` after it says that files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    flags = [flag for flag in FLAGS if flag in processor().split()]
    return Machine(cpu_name(), os.cpu_count() or 1, flags, torch.__version__, commit)
