"""The list that defines the set: the id of each row, the part it belongs to, and the hash of its pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

LIST = Path(__file__).parent / "list.parquet"
SHOWN = 5


@dataclass(frozen=True)
class Listed:
    """A row of the list."""

    id: str
    split: str
    pixels: bytes


def read_list(file: Path = LIST) -> dict[str, Listed]:
    """Return id -> row."""
    return {row["id"]: Listed(**row) for row in pq.read_table(file).to_pylist()}


def write_list(rows: Iterable[Listed], file: Path = LIST) -> None:
    """Write the list, sorted by id."""
    table = pa.Table.from_pylist([vars(row) for row in sorted(rows, key=lambda row: row.id)])
    pq.write_table(table, file, compression="zstd", compression_level=19)


def differences(listed: dict[str, Listed], made: dict[str, bytes]) -> list[str]:
    """Return a sentence for each way in which what was made (id -> hash of pixels) is not what is listed."""
    missing = sorted(set(listed) - set(made))
    changed = sorted(name for name, pixels in made.items() if listed[name].pixels != pixels)
    found = []
    if missing:
        found.append(f"{len(missing)} listed drawings are not there: {_shown(missing)}.")
    if changed:
        found.append(f"{len(changed)} drawings have other pixels: {_shown(changed)}.")
    return found


def _shown(ids: list[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")


def counts(listed: dict[str, Listed]) -> Counter[str]:
    """Return how many rows each part has."""
    return Counter(row.split for row in listed.values())
