"""Write and read sets of image tokens: Parquet files (shards) with rows ``{"id", "captions", "image_tokens"}``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset

from t2i.data.part_files import (
    SetDescription,
    SetManifest,
    is_whole,
    parquet_bytes,
    part_files,
    verify_parts,
    write_parts,
)
from t2i.data.resume import FinishedRows
from t2i.data.tensors import column_array, tensor_column
from t2i.storage import arrow_filesystem

ROWS_PER_PART = 1024
TOKEN_SET = SetDescription("set of image tokens", "jobs/encode_images.py")
"""What error messages call such a set, and the script that writes one."""


def write_token_shards(
    dataset: Dataset,
    directory: str,
    *,
    metadata: Mapping[str, Any],
    finished: FinishedRows | None = None,
    rows_per_part: int = ROWS_PER_PART,
    progress: Callable[[int], None] | None = None,
) -> SetManifest:
    """Write rows ``{"id", "captions", "image_tokens"}`` as shards, then the manifest that completes the set.

    The arguments are those of :func:`t2i.data.part_files.write_parts`.

    Raises:
        DataError: ``dataset`` has no rows, or the directory cannot be written.
    """
    return write_parts(
        dataset,
        directory,
        _encode,
        ".parquet",
        rows_per_part=rows_per_part,
        metadata=metadata,
        finished=finished,
        progress=progress,
    )


def _encode(table: pa.Table) -> bytes:
    """Return rows as the bytes of a Parquet file; image tokens are fixed-size lists, which any Parquet reader reads."""
    tokens = column_array(table["image_tokens"]).astype("int32")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), tokens.shape[1])
    return parquet_bytes(table.select(["id", "captions"]).append_column("image_tokens", lists))


def read_token_shards(directory: str) -> tuple[Dataset, dict[str, Any]]:
    """Return rows ``{"id", "captions", "image_tokens": int32 [N]}`` as a lazy dataset, and the set's metadata.

    Raises:
        DataError: there is no complete set, or a part file is missing or damaged.
    """
    manifest = verify_shards(directory)
    filesystem, files = part_files(directory, manifest)
    dataset = ray.data.read_parquet(
        files, filesystem=arrow_filesystem(filesystem), partitioning=None, file_extensions=None
    )
    return dataset.map_batches(_as_tensors, batch_format="pyarrow"), manifest.metadata


def _as_tensors(table: pa.Table) -> pa.Table:
    """Return rows of a shard with the lists of image tokens converted to tensors."""
    return table.drop_columns("image_tokens").append_column("image_tokens", tensor_column(token_array(table)))


def token_array(table: pa.Table) -> np.ndarray:
    """Return the image tokens int32 [n, N] of n rows read from a shard."""
    lists = table["image_tokens"].combine_chunks()
    tokens: np.ndarray = lists.flatten().to_numpy().reshape(len(table), lists.type.list_size)
    return tokens


def verify_shards(directory: str) -> SetManifest:
    """Check every shard against its hash in the manifest, and return the manifest.

    Raises:
        DataError: there is no manifest, or a part file is missing or damaged.
    """
    return verify_parts(directory, TOKEN_SET)


def is_complete(directory: str, metadata: Mapping[str, Any]) -> bool:
    """Return whether ``directory`` holds a complete, undamaged set that was written with this metadata."""
    return is_whole(directory, TOKEN_SET, metadata)
