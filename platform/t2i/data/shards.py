"""Image-token shards: Parquet parts of one attempt, and a manifest that names them, written last.

A writer killed half-way leaves parts that no manifest names, and readers look at nothing else; an earlier
complete set stays readable until the new one is whole. The next writer of the same set (the same metadata) finds
its parts again and goes on from there: see :mod:`t2i.data.resume`.
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
import ray
from ray.data import Dataset

from models.manifest import MANIFEST
from t2i.data.errors import DataError
from t2i.data.resume import Finished, find_finished, part_name
from t2i.data.storage import (
    delete_file,
    delete_folder,
    file_info,
    filesystem_for,
    list_folder,
    read_file,
    refusing,
    write_file,
)
from t2i.data.tensors import column_array, tensor_column
from t2i.data.transfer import sha256

ROWS_PER_PART = 1024


@dataclass(frozen=True)
class Manifest:
    """What a complete set of shards holds: file -> SHA-256, the row count, and what made them."""

    files: dict[str, str]
    rows: int
    metadata: dict[str, Any]


def finished_shards(directory: str, metadata: Mapping[str, Any]) -> Finished:
    """What an earlier, killed writer of the same set has left; :func:`write_token_shards` takes it up.

    Raises:
        DataError: the store does not answer.
    """
    filesystem, root = filesystem_for(directory)
    with refusing(directory):
        return find_finished(filesystem, f"{root}/{_attempt(metadata)}")


def _attempt(metadata: Mapping[str, Any]) -> str:
    """The folder of a set's parts: what may be mixed in one set has the same."""
    return f"attempt-{hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:12]}"


def write_token_shards(
    dataset: Dataset,
    directory: str,
    *,
    metadata: Mapping[str, Any],
    finished: Finished | None = None,
    rows_per_part: int = ROWS_PER_PART,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write rows ``{"id", "captions", "image_tokens"}`` that are not ``finished``, and name all in the manifest.

    A part is written as soon as a block of the dataset holds its rows, so blocks of ``rows_per_part`` rows lose the
    least in a kill. ``progress`` hears the number of rows done so far.

    Raises:
        DataError: the dataset is empty, which would train nothing.
    """
    filesystem, root = filesystem_for(directory)
    attempt, finished = _attempt(metadata), finished or Finished()
    write = partial(_write_part, filesystem=filesystem, folder=f"{root}/{attempt}")
    parts = dataset.map_batches(write, batch_size=rows_per_part, batch_format="pyarrow")
    names, rows = dict(finished.files), len(finished.ids)
    for part in parts.iter_rows():
        names[part["name"]] = part["sha256"]
        rows += part["rows"]
        if progress:
            progress(rows)
    if not rows:
        raise DataError(f"{directory} would hold no row: no image of the source could be used.")
    manifest = Manifest({f"{attempt}/{name}": names[name] for name in sorted(names)}, rows, dict(metadata))
    with refusing(directory):
        write_file(filesystem, f"{root}/{MANIFEST}", json.dumps(asdict(manifest), indent=2).encode())
        _remove_the_rest(filesystem, root, attempt, manifest)
    return manifest


def _write_part(table: pa.Table, filesystem: pafs.FileSystem, folder: str) -> pa.Table:
    """Write one part under the name of its content, so that a retried task writes the same file again."""
    parts = []
    if len(table):
        sink = pa.BufferOutputStream()
        pq.write_table(_plain(table), sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        name, digest = part_name(data)
        parts = [{"name": name, "sha256": digest, "rows": len(table)}]
        write_file(filesystem, f"{folder}/{name}", data)
    schema = pa.schema({"name": pa.string(), "sha256": pa.string(), "rows": pa.int64()})
    return pa.Table.from_pylist(parts, schema=schema)


def _plain(table: pa.Table) -> pa.Table:
    """Image tokens as fixed-size lists, which any Parquet reader knows."""
    tokens = column_array(table["image_tokens"]).astype("int32")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), tokens.shape[1])
    return table.select(["id", "captions"]).append_column("image_tokens", lists)


def _remove_the_rest(filesystem: pafs.FileSystem, root: str, attempt: str, manifest: Manifest) -> None:
    """Delete other attempts, and parts of this one that do not count."""
    for entry in list_folder(filesystem, root):
        if entry.base_name.startswith("attempt-") and entry.base_name != attempt:
            delete_folder(filesystem, entry.path)
    for part in list_folder(filesystem, f"{root}/{attempt}"):
        if f"{attempt}/{part.base_name}" not in manifest.files:
            delete_file(filesystem, part.path)


def read_token_shards(directory: str) -> tuple[Dataset, dict[str, Any]]:
    """Return rows ``{"id", "captions", "image_tokens": int32 [N]}`` and the metadata the writer gave.

    Raises:
        DataError: there is no complete set, or a part is missing or damaged.
    """
    manifest = verify_shards(directory)
    return read_parts(directory, list(manifest.files)), manifest.metadata


def read_parts(directory: str, files: list[str], num_cpus: float = 1) -> Dataset:
    """:func:`read_token_shards` of some of a set's files, each task counting as ``num_cpus``."""
    filesystem, root = filesystem_for(directory)
    dataset = ray.data.read_parquet(
        [f"{root}/{name}" for name in files],
        filesystem=filesystem,
        partitioning=None,
        ray_remote_args={"num_cpus": num_cpus},
    )
    return dataset.map_batches(_as_tensors, batch_format="pyarrow", num_cpus=num_cpus)


def _as_tensors(table: pa.Table) -> pa.Table:
    lists = table["image_tokens"].combine_chunks()
    tokens = lists.flatten().to_numpy().reshape(len(table), lists.type.list_size)
    return table.drop_columns("image_tokens").append_column("image_tokens", tensor_column(tokens))


def verify_shards(directory: str) -> Manifest:
    """Read the manifest and compare every part with its hash.

    Raises:
        DataError: there is no manifest, or a part is missing or damaged.
    """
    filesystem, root = filesystem_for(directory)
    with refusing(directory):
        begun = file_info(filesystem, f"{root}/{MANIFEST}").is_file
    if not begun:
        raise DataError(f"{directory} has no complete set of image tokens: run jobs/encode_images.py first.")
    manifest = Manifest(**json.loads(read_file(f"{directory}/{MANIFEST}")))
    with refusing(directory), ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(partial(_hash_or_none, filesystem), [f"{root}/{name}" for name in manifest.files]))
    for (name, expected), actual in zip(manifest.files.items(), hashes, strict=True):
        if actual != expected:
            raise DataError(f"{directory}/{name} is missing or damaged: run jobs/encode_images.py again.")
    return manifest


def _hash_or_none(filesystem: pafs.FileSystem, file: str) -> str | None:
    try:
        return sha256(filesystem, file)
    except FileNotFoundError:
        return None


def is_complete(directory: str, metadata: Mapping[str, Any]) -> bool:
    """Whether ``directory`` holds an undamaged set that was written with the same metadata."""
    try:
        return verify_shards(directory).metadata == dict(metadata)
    except DataError:
        return False
