"""Going on where a killed writer of Parquet parts stopped: which of its parts count, and which rows need no more work.

Ray Data has job checkpoints of its own (``CheckpointConfig``): a second set of files beside the parts, which names ids
that were written, and must be kept in step with them. The parts themselves already say which ids they hold, and their
names what content they must have, so they alone are the record here: there is nothing to get out of step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from ray.data import Dataset

from t2i.storage import list_folder, read_path

DIGEST_DTYPE = "S16"
"""How an id is remembered: 16 bytes of hash, so that ten million fit into 160 MB and no two are taken for one."""


def _no_ids() -> np.ndarray:
    return np.empty(0, DIGEST_DTYPE)


@dataclass(frozen=True)
class FinishedRows:
    """Parts that were written before: name -> SHA-256, and the sorted digests of the ids they hold, [rows]."""

    files: dict[str, str] = field(default_factory=dict)
    ids: np.ndarray = field(default_factory=_no_ids)

    def __contains__(self, id: str) -> bool:
        return bool(_find(self.ids, digests([id]))[0])


def digests(ids: Sequence[str]) -> np.ndarray:
    """Ids -> what remembers them, in their order."""
    return np.array([hashlib.blake2b(id.encode(), digest_size=16).digest() for id in ids], DIGEST_DTYPE)


def _find(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """bool [wanted]: which are in the sorted ``known``."""
    if not len(known):
        return np.zeros(len(wanted), bool)
    return known[np.searchsorted(known, wanted).clip(max=len(known) - 1)] == wanted


def part_name(data: bytes, suffix: str = ".parquet") -> tuple[str, str]:
    """The name of a part with this content, and its whole SHA-256."""
    digest = hashlib.sha256(data).hexdigest()
    return f"part-{digest[:16]}{suffix}", digest


def find_finished(filesystem: pafs.FileSystem, folder: str) -> FinishedRows:
    """The undamaged parts in ``folder``, so chosen that none of them share an id.

    A task whose worker died after writing was done again, and may have written the same rows in other parts.
    """
    names = [info.base_name for info in list_folder(filesystem, folder) if info.base_name.startswith("part-")]
    with ThreadPoolExecutor(8) as pool:
        read = [part for part in pool.map(partial(_read_part, filesystem, folder), names) if part is not None]
    if not read:
        return FinishedRows()
    rows = np.array([len(ids) for _, _, ids in read])
    every = np.concatenate([ids for _, _, ids in read])
    _, first = np.unique(every, return_index=True)
    of_part = np.repeat(np.arange(len(read)), rows)
    counts = np.bincount(of_part[first], minlength=len(read)) == rows  # no id of it was in a part before
    files = {name: digest for (name, digest, _), kept in zip(read, counts, strict=True) if kept}
    return FinishedRows(files, np.sort(every[counts[of_part]]))


def _read_part(filesystem: pafs.FileSystem, folder: str, name: str) -> tuple[str, str, np.ndarray] | None:
    data = read_path(filesystem, f"{folder}/{name}")
    expected, digest = part_name(data)
    if name != expected:
        return None
    ids = pq.read_table(pa.BufferReader(data), columns=["id"])["id"].to_pylist()
    return name, digest, digests(ids)


def skip_finished(dataset: Dataset, finished: FinishedRows, views: int = 0) -> Dataset:
    """The rows that are not finished; with ``views``, images of which some view is not."""
    if not len(finished.ids):
        return dataset
    return dataset.map_batches(partial(_unfinished, finished.ids, views), batch_format="pyarrow")


def _unfinished(known: np.ndarray, views: int, table: pa.Table) -> pa.Table:
    ids = table["id"].to_pylist()
    names = [view for id in ids for view in view_ids(id, views)] if views else ids
    done = _find(known, digests(names)).reshape(len(ids), -1).all(axis=1)
    return table.filter(pa.array(~done))


def view_ids(id: str, views: int) -> list[str]:
    """The ids of the views of an image."""
    return [f"{id}#{view}" for view in range(views)]
