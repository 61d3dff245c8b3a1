"""Complete sets of files: the parts of one attempt, and a manifest that names them, written last.

A writer killed half-way leaves parts that no manifest names, and readers look at nothing else; an earlier
complete set stays readable until the new one is whole. The next writer of the same set (the same metadata) finds
its parts again and may go on from there: see :mod:`t2i.data.resume`.
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
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from ray.data import Dataset

from models.manifest import MANIFEST
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
    """What a complete set holds: file -> SHA-256, the row count, and what made them."""

    files: dict[str, str]
    rows: int
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SetDescription:
    """How error messages speak of a set: what it is, and the job that makes it."""

    noun: str
    job: str


def find_finished_rows(directory: str, metadata: Mapping[str, Any]) -> FinishedRows:
    """What an earlier, killed writer of the same set of Parquet parts has left; :func:`write_parts` takes it up.

    Raises:
        DataError: the store does not answer.
    """
    filesystem, root = filesystem_for(directory)
    with as_data_error(directory):
        return find_finished(filesystem, f"{root}/{_attempt(metadata)}")


def _attempt(metadata: Mapping[str, Any]) -> str:
    """The folder of a set's parts: what may be mixed in one set has the same."""
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
    """Write batches of ``dataset``, rows that are not ``finished``, as files by ``encode``; name all in the manifest.

    A part is written as soon as a block of the dataset holds its rows, so blocks of ``rows_per_part`` rows lose the
    least in a kill. ``progress`` hears the number of rows done so far; ``before_manifest`` that of all rows, just
    before the set counts as whole.

    Raises:
        DataError: the dataset is empty, which would train nothing.
    """
    filesystem, root = filesystem_for(directory)
    attempt, finished = _attempt(metadata), finished or FinishedRows()
    write = partial(_write_part, filesystem=filesystem, folder=f"{root}/{attempt}", encode=encode, suffix=suffix)
    parts = dataset.map_batches(write, batch_size=rows_per_part, batch_format="pyarrow")
    names, rows = dict(finished.files), len(finished.ids)
    for part in parts.iter_rows():
        names[part["name"]] = part["sha256"]
        rows += part["rows"]
        if progress:
            progress(rows)
    if not rows:
        raise DataError(f"{directory} would hold no row: no image of the source could be used.")
    if before_manifest:
        before_manifest(rows)
    manifest = SetManifest({f"{attempt}/{name}": names[name] for name in sorted(names)}, rows, dict(metadata))
    with as_data_error(directory):
        write_file(filesystem, f"{root}/{MANIFEST}", json.dumps(asdict(manifest), indent=2).encode())
        _remove_the_rest(filesystem, root, attempt, manifest)
    return manifest


def _write_part(
    table: pa.Table, filesystem: pafs.FileSystem, folder: str, encode: Callable[[pa.Table], bytes], suffix: str
) -> pa.Table:
    """Write one part under the name of its content, so that a retried task writes the same file again."""
    parts = []
    if len(table):
        data = encode(table)
        name, digest = part_name(data, suffix)
        parts = [{"name": name, "sha256": digest, "rows": len(table)}]
        write_file(filesystem, f"{folder}/{name}", data)
    return pa.Table.from_pylist(parts, schema=PART_SCHEMA)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _remove_the_rest(filesystem: pafs.FileSystem, root: str, attempt: str, manifest: SetManifest) -> None:
    """Delete other attempts, and parts of this one that do not count."""
    for entry in list_folder(filesystem, root):
        if entry.base_name.startswith(ATTEMPT_PREFIX) and entry.base_name != attempt:
            delete_folder(filesystem, entry.path)
    for part in list_folder(filesystem, f"{root}/{attempt}"):
        if f"{attempt}/{part.base_name}" not in manifest.files:
            delete_file(filesystem, part.path)


def part_files(directory: str, manifest: SetManifest) -> tuple[pafs.FileSystem, list[str]]:
    """The paths of a set's files."""
    filesystem, root = filesystem_for(directory)
    return filesystem, [f"{root}/{name}" for name in manifest.files]


def verify_parts(directory: str, kind: SetDescription) -> SetManifest:
    """Read the manifest and compare every part with its hash.

    Raises:
        DataError: there is no manifest, or a part is missing or damaged.
    """
    filesystem, root = filesystem_for(directory)
    with as_data_error(directory):
        begun = file_info(filesystem, f"{root}/{MANIFEST}").is_file
    if not begun:
        raise DataError(f"{directory} has no complete {kind.noun}: run {kind.job} first.")
    manifest = SetManifest(**json.loads(read_file(f"{directory}/{MANIFEST}")))
    with as_data_error(directory), ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(partial(_hash_or_none, filesystem), [f"{root}/{name}" for name in manifest.files]))
    for (name, expected), actual in zip(manifest.files.items(), hashes, strict=True):
        if actual != expected:
            raise DataError(f"{directory}/{name} is missing or damaged: run {kind.job} again.")
    return manifest


def is_whole(directory: str, kind: SetDescription, metadata: Mapping[str, Any]) -> bool:
    """Whether ``directory`` holds an undamaged set that was written with the same metadata."""
    try:
        return verify_parts(directory, kind).metadata == dict(metadata)
    except DataError:
        return False


def _hash_or_none(filesystem: pafs.FileSystem, file: str) -> str | None:
    try:
        return sha256(filesystem, file)
    except FileNotFoundError:
        return None
