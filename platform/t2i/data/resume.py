"""Continue where a killed writer of Parquet part files stopped: find the rows it finished, and skip them.

What a writer that was killed (or lost its connection) can leave in the folder of an attempt:

====================================  ================================================================================
left behind                           treatment
====================================  ================================================================================
a complete part file                  counts: its name is the hash of its content, so it is known to be complete
a partial file                        does not count: it has a temporary name, or its content differs from its name
two part files that share ids         the first by name counts whole, the other not at all: see :func:`find_finished`
====================================  ================================================================================

Rows of files that do not count are computed again. :func:`t2i.data.part_files.write_parts` deletes those files in the
end.

Ray Data's own checkpoints (``CheckpointConfig``) are not used: they are a second record of the written ids, beside the
part files, and can disagree with them. Here the part files themselves are the only record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from ray.data import Dataset

from t2i.storage import list_folder, read_path

DIGEST_DTYPE = "S16"
"""Ids are kept as 16-byte hashes: ten million take 160 MB, and a collision is practically impossible."""


def _no_ids() -> np.ndarray:
    return np.empty(0, DIGEST_DTYPE)


@dataclass(frozen=True)
class FinishedRows:
    """The rows that an earlier attempt has finished, and the part files that hold them.

    ``files`` maps names to SHA-256; ``ids`` are the sorted digests of the rows' ids, S16 [n]. ``id in finished`` works.
    """

    files: dict[str, str] = field(default_factory=dict)
    ids: np.ndarray = field(default_factory=_no_ids)

    def __contains__(self, row_id: str) -> bool:
        return bool(_contains(self.ids, digests([row_id]))[0])


def digests(ids: Iterable[str]) -> np.ndarray:
    """Return the 16-byte hashes of ids, S16 [n], in their order; the ids themselves are not held."""
    hashed = bytearray()
    for row_id in ids:
        hashed += hashlib.blake2b(row_id.encode(), digest_size=16).digest()
    return np.ndarray(len(hashed) // 16, DIGEST_DTYPE, hashed)


def _contains(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return which of ``wanted`` are in the sorted array ``known``, as bool [len(wanted)]."""
    if not len(known):
        return np.zeros(len(wanted), bool)
    found: np.ndarray = known[np.searchsorted(known, wanted).clip(max=len(known) - 1)] == wanted
    return found


def part_name(data: bytes, suffix: str = ".parquet") -> tuple[str, str]:
    """Return the name of a part file with this content (``part-`` and 16 hex digits), and its whole SHA-256."""
    digest = hashlib.sha256(data).hexdigest()
    return f"part-{digest[:16]}{suffix}", digest


def find_finished(filesystem: AbstractFileSystem, folder: str) -> FinishedRows:
    """Return the finished rows in ``folder``: the rows of undamaged part files, chosen so that no id comes twice.

    Two part files share ids if a worker died after writing one, and the retried task cut the same rows into other
    batches. A set must hold each id once, and a part file can only be used as a whole, so of these one is left out.
    """
    # Part files in the order of their names (list_folder sorts). One counts if each of its ids comes here first:
    #
    #   part    A       B       C
    #   ids     1 2 3   3 4     5 6
    #   first   1 1 1   0 1     1 1     np.unique() gives the places where an id comes first
    #   counts  yes     no      yes     3 = 3, 1 < 2, 2 = 2; id 4 is computed again
    #
    # B is compared with A even if A itself does not count: that may leave out more than necessary, never too little.
    names = [entry.name for entry in list_folder(filesystem, folder) if entry.name.startswith("part-")]
    with ThreadPoolExecutor(8) as pool:
        read = [part for part in pool.map(partial(_read_part, filesystem, folder), names) if part is not None]
    if not read:
        return FinishedRows()
    rows = np.array([len(ids) for _, _, ids in read])
    all_ids = np.concatenate([ids for _, _, ids in read])
    part_of_id = np.repeat(np.arange(len(read)), rows)
    _, first = np.unique(all_ids, return_index=True)
    counts = np.bincount(part_of_id[first], minlength=len(read)) == rows
    files = {name: digest for (name, digest, _), kept in zip(read, counts, strict=True) if kept}
    return FinishedRows(files, np.sort(all_ids[counts[part_of_id]]))


def _read_part(filesystem: AbstractFileSystem, folder: str, name: str) -> tuple[str, str, np.ndarray] | None:
    """Return the name, SHA-256 and id digests of a part file; None if its content does not match its name."""
    data = read_path(filesystem, f"{folder}/{name}")
    expected, digest = part_name(data)
    if name != expected:
        return None
    ids = pq.read_table(pa.BufferReader(data), columns=["id"])["id"].to_pylist()
    return name, digest, digests(ids)


def skip_finished(dataset: Dataset, finished: FinishedRows, views: int = 0) -> Dataset:
    """Drop the rows of ``dataset`` that are finished.

    With ``views``, the rows are images of which that many views are to be written (ids ``<id>#0``, ...): an image is
    dropped if all its views are finished. If some are, a second call on the views drops those.
    """
    if not len(finished.ids):
        return dataset
    return dataset.map_batches(partial(_unfinished, finished.ids, views), batch_format="pyarrow")


def _unfinished(known: np.ndarray, views: int, table: pa.Table) -> pa.Table:
    """Return the rows of ``table`` that :func:`skip_finished` keeps; ``known`` are the finished ids' digests."""
    ids = table["id"].to_pylist()
    written_ids = [view_id for image_id in ids for view_id in view_ids(image_id, views)] if views else ids
    done = _contains(known, digests(written_ids)).reshape(len(ids), -1).all(axis=1)  # [rows, views or 1] -> [rows]
    return table.filter(pa.array(~done))


def view_ids(image_id: str, views: int) -> list[str]:
    """Return the ids of the ``views`` views of an image."""
    return [f"{image_id}#{view}" for view in range(views)]
