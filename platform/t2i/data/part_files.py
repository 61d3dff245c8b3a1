"""Write a dataset as a set of part files with a manifest, so that an incomplete set is never read.

A set is a directory like this::

    manifest.json                  written last; lists the part files of the complete set and their hashes
    attempt-<hash of metadata>/
        part-<hash of content>.parquet
        ...

Readers use only the files in the manifest. A killed writer therefore leaves part files that nobody reads, and an
earlier complete set stays readable until the new one is complete. The next writer with the same metadata can find
those part files and continue from there: see :mod:`t2i.data.resume`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from ray.data import Dataset

from models.manifest import MANIFEST
from t2i.config import is_same
from t2i.data.resume import FinishedRows, find_finished, part_name
from t2i.storage import (
    DataError,
    as_data_error,
    delete_file,
    delete_folder,
    file_info,
    filesystem_for,
    list_folder,
    read_file,
    write_file,
)
from t2i.storage.listing import ATTEMPT_PREFIX
from t2i.storage.transfer import sha256

PART_SCHEMA = pa.schema({"name": pa.string(), "sha256": pa.string(), "rows": pa.int64()})


@dataclass(frozen=True)
class SetManifest:
    """The manifest of a complete set: its part files (path -> SHA-256), rows in all, and the writer's metadata."""

    files: dict[str, str]
    rows: int
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SetDescription:
    """How error messages describe a set: what it is (``noun``), and the script that writes it (``job``)."""

    noun: str
    job: str


def find_finished_rows(directory: str, metadata: Mapping[str, Any]) -> FinishedRows:
    """Return the rows that a killed writer of the same set (the same metadata) has finished, for :func:`write_parts`.

    The part files have to be Parquet.

    Raises:
        DataError: the store cannot be read.
    """
    filesystem, root = filesystem_for(directory)
    with as_data_error(directory):
        return find_finished(filesystem, f"{root}/{_attempt_folder(metadata)}")


def _attempt_folder(metadata: Mapping[str, Any]) -> str:
    """Return the name of the folder for part files: attempts with equal metadata share it and can be continued."""
    return f"{ATTEMPT_PREFIX}{hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:12]}"


def write_parts(
    dataset: Dataset,
    directory: str,
    encode: Callable[[pa.Table], bytes],
    suffix: str,
    *,
    rows_per_part: int,
    metadata: Mapping[str, Any],
    finished: FinishedRows | None = None,
    progress: Callable[[int], None] | None = None,
    before_manifest: Callable[[int], None] | None = None,
) -> SetManifest:
    """Write ``dataset`` as part files of ``rows_per_part`` rows, then the manifest that completes the set.

    Args:
        dataset: the rows to write; those in ``finished`` must have been removed from it (``skip_finished``).
        directory: local or s3:// directory of the set.
        encode: makes the content of a part file from its rows.
        suffix: of the part files' names.
        rows_per_part: the most rows of a part file. A block of the dataset is written when it is computed, so blocks
            of this many rows lose the least if the writer is killed.
        metadata: kept in the manifest; part files of writers with other metadata are not mixed in.
        finished: the rows of an earlier attempt whose part files become part of the set.
        progress: called with the number of rows finished so far.
        before_manifest: called with the number of all rows just before the set becomes complete.

    Raises:
        DataError: there is no row, or the directory cannot be written.
    """
    filesystem, root = filesystem_for(directory)
    attempt, finished = _attempt_folder(metadata), finished or FinishedRows()
    write = partial(_write_part, filesystem=filesystem, folder=f"{root}/{attempt}", encode=encode, suffix=suffix)
    # 1. Workers write part files; only (name, hash, rows) of each comes here, as soon as it is written. Ray may run a
    #    task twice (its worker died after writing): only the rows of the run that counts come here, and the manifest
    #    is made of these. The other run wrote the same files, or ones that the manifest does not list.
    parts = dataset.map_batches(write, batch_size=rows_per_part, batch_format="pyarrow")
    hashes, rows = dict(finished.files), len(finished.ids)
    for part in parts.iter_rows():
        hashes[part["name"]] = part["sha256"]
        rows += part["rows"]
        if progress:
            progress(rows)
    if not rows:
        raise DataError(f"{directory} would hold no row: no image of the source could be used.")
    if before_manifest:
        before_manifest(rows)
    # 2. Replacing the manifest, in one step, makes the new set the complete one: a writer killed before it leaves the
    #    old set as it was, and one killed after it leaves files that nobody reads and that the next writer removes.
    files = {f"{attempt}/{name}": hashes[name] for name in sorted(hashes)}
    manifest = SetManifest(files, rows, dict(metadata))
    with as_data_error(directory):
        write_file(filesystem, f"{root}/{MANIFEST}", json.dumps(asdict(manifest), indent=2).encode())
        _remove_the_rest(filesystem, root, attempt, manifest)
    return manifest


def _write_part(
    table: pa.Table, filesystem: AbstractFileSystem, folder: str, encode: Callable[[pa.Table], bytes], suffix: str
) -> pa.Table:
    """Write a batch as one part file; return its name, SHA-256 and number of rows as a table of one row.

    The name is a hash of the content, so a retried task that makes the same content overwrites its own file. An empty
    batch writes nothing and returns no row.
    """
    parts = []
    if len(table):
        data = encode(table)
        name, digest = part_name(data, suffix)
        parts = [{"name": name, "sha256": digest, "rows": len(table)}]
        write_file(filesystem, f"{folder}/{name}", data)
    return pa.Table.from_pylist(parts, schema=PART_SCHEMA)


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a table as the content of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _remove_the_rest(filesystem: AbstractFileSystem, root: str, attempt: str, manifest: SetManifest) -> None:
    """Delete the other attempts, and the part files of this one that are not in the manifest."""
    for entry in list_folder(filesystem, root):
        if entry.name.startswith(ATTEMPT_PREFIX) and entry.name != attempt:
            delete_folder(filesystem, entry.path)
    for part in list_folder(filesystem, f"{root}/{attempt}"):
        if f"{attempt}/{part.name}" not in manifest.files:
            delete_file(filesystem, part.path)


def part_files(directory: str, manifest: SetManifest) -> tuple[AbstractFileSystem, list[str]]:
    """Return the file system and the paths of a set's part files."""
    filesystem, root = filesystem_for(directory)
    return filesystem, [f"{root}/{name}" for name in manifest.files]


def verify_parts(directory: str, described: SetDescription) -> SetManifest:
    """Compare every part file with its hash in the manifest, and return the manifest.

    Raises:
        DataError: there is no manifest, or a part file is missing or damaged.
    """
    filesystem, root = filesystem_for(directory)
    with as_data_error(directory):
        complete = file_info(filesystem, f"{root}/{MANIFEST}").is_file
    if not complete:
        raise DataError(f"{directory} has no complete {described.noun}: run {described.job} first.")
    manifest = SetManifest(**json.loads(read_file(f"{directory}/{MANIFEST}")))
    with as_data_error(directory), ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(partial(_hash_or_none, filesystem), [f"{root}/{name}" for name in manifest.files]))
    for (name, expected), actual in zip(manifest.files.items(), hashes, strict=True):
        if actual != expected:
            raise DataError(f"{directory}/{name} is missing or damaged: run {described.job} again.")
    return manifest


def is_whole(directory: str, described: SetDescription, metadata: Mapping[str, Any]) -> bool:
    """Return whether ``directory`` holds a complete, undamaged set that was written with this metadata."""
    try:
        return is_same(verify_parts(directory, described).metadata, metadata)
    except DataError:
        return False


def _hash_or_none(filesystem: AbstractFileSystem, file: str) -> str | None:
    try:
        return sha256(filesystem, file)
    except FileNotFoundError:
        return None
