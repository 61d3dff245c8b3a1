"""Complete sets of files: the parts of one attempt, and a manifest that names them, written last.

A writer killed half-way leaves parts that no manifest names, and readers look at nothing else; an earlier
complete set stays readable until the new one is whole.
"""

from __future__ import annotations

import hashlib
import json
import uuid
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
from t2i.data.errors import DataError
from t2i.data.storage import ATTEMPT, filesystem_for, read_file, sha256, write_file

PART_SCHEMA = pa.schema({"name": pa.string(), "sha256": pa.string(), "rows": pa.int64()})


@dataclass(frozen=True)
class Manifest:
    """What a complete set holds: file -> SHA-256, the row count, and what made them."""

    files: dict[str, str]
    rows: int
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """How error messages speak of a set: what it is, the job that makes it, and the verb for that."""

    noun: str
    job: str
    verb: str


def write_parts(
    dataset: Dataset,
    directory: str,
    encode: Callable[[pa.Table], bytes],
    suffix: str,
    *,
    rows_per_part: int,
    metadata: Mapping[str, Any],
    progress: Callable[[int], None] | None = None,
    before_manifest: Callable[[int], None] | None = None,
) -> Manifest:
    """Write batches of ``dataset`` as files by ``encode``; ``progress`` hears the number of rows done so far.

    ``before_manifest`` is called with the number of all rows just before the set counts as whole.

    Raises:
        DataError: the dataset is empty, which would train nothing.
    """
    filesystem, root = filesystem_for(directory)
    attempt = f"{ATTEMPT}{uuid.uuid4().hex[:12]}"
    write = partial(_write_part, filesystem=filesystem, folder=f"{root}/{attempt}", encode=encode, suffix=suffix)
    parts = dataset.map_batches(write, batch_size=rows_per_part, batch_format="pyarrow")
    files, rows = {}, 0
    for part in parts.iter_rows():
        files[f"{attempt}/{part['name']}"] = part["sha256"]
        rows += part["rows"]
        if progress:
            progress(rows)
    if not rows:
        raise DataError(f"{directory} would hold no row: no image of the source could be used.")
    if before_manifest:
        before_manifest(rows)
    manifest = Manifest(dict(sorted(files.items())), rows, dict(metadata))
    write_file(filesystem, f"{root}/{MANIFEST}", json.dumps(asdict(manifest), indent=2).encode())
    _remove_other_attempts(filesystem, root, attempt)
    return manifest


def _write_part(
    table: pa.Table, filesystem: pafs.FileSystem, folder: str, encode: Callable[[pa.Table], bytes], suffix: str
) -> pa.Table:
    """Write one part under the name of its content, so that a retried task writes the same file again."""
    parts = []
    if len(table):
        data = encode(table)
        digest = hashlib.sha256(data).hexdigest()
        parts = [{"name": f"part-{digest[:16]}{suffix}", "sha256": digest, "rows": len(table)}]
        write_file(filesystem, f"{folder}/{parts[0]['name']}", data)
    return pa.Table.from_pylist(parts, schema=PART_SCHEMA)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _remove_other_attempts(filesystem: pafs.FileSystem, root: str, attempt: str) -> None:
    for entry in filesystem.get_file_info(pafs.FileSelector(root)):
        if entry.base_name.startswith(ATTEMPT) and entry.base_name != attempt:
            filesystem.delete_dir(entry.path)


def part_files(directory: str, manifest: Manifest) -> tuple[pafs.FileSystem, list[str]]:
    """The paths of a set's files."""
    filesystem, root = filesystem_for(directory)
    return filesystem, [f"{root}/{name}" for name in manifest.files]


def verify_parts(directory: str, kind: Kind) -> Manifest:
    """Read the manifest and compare every part with its hash.

    Raises:
        DataError: there is no manifest, or a part is missing or damaged.
    """
    filesystem, root = filesystem_for(directory)
    if not filesystem.get_file_info(f"{root}/{MANIFEST}").is_file:
        raise DataError(f"{directory} has no complete {kind.noun}: run {kind.job} first.")
    manifest = Manifest(**json.loads(read_file(f"{directory}/{MANIFEST}")))
    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(partial(_hash_or_none, filesystem), [f"{root}/{name}" for name in manifest.files]))
    for (name, expected), actual in zip(manifest.files.items(), hashes, strict=True):
        if actual != expected:
            raise DataError(f"{directory}/{name} is missing or damaged: delete {directory} and {kind.verb} again.")
    return manifest


def is_whole(directory: str, kind: Kind, metadata: Mapping[str, Any]) -> bool:
    """Whether ``directory`` holds an undamaged set that was written with the same metadata."""
    try:
        return verify_parts(directory, kind).metadata == dict(metadata)
    except DataError:
        return False


def _hash_or_none(filesystem: pafs.FileSystem, file: str) -> str | None:
    try:
        return sha256(filesystem, file)
    except OSError:
        return None
