"""Training sets split into shards, of which only some are in memory at a time, so that large sets can be used.

Ray Data is not used for this: its tasks would wait for CPUs, all of which training may have taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from t2i.data.columns import caption_array
from t2i.data.packed_images import pack_images
from t2i.data.pairs import PairBatch
from t2i.data.parquet_columns import PairColumns
from t2i.data.parquet_pairs import RowGroup, open_parquet, read_row_group
from t2i.data.source import SourceConfig
from t2i.data.token_shards import token_array, verify_shards
from t2i.storage import arrow_filesystem, filesystem_for, read_path

PARALLEL_READS = 8
"""Shards that are read at the same time."""


class Shards(Protocol):
    """A training set in shards of known sizes, each of which can be read by its number."""

    @property
    def rows(self) -> Sequence[int]:
        """The number of rows of each shard."""

    def read(self, shards: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the rows of some shards, in the order given, as arrays by column name."""


@dataclass(frozen=True)
class TokenShards:
    """A complete set of image-token shards: ``files`` in ``directory``, and the number of ``rows`` of each."""

    directory: str
    files: list[str]
    rows: list[int]

    @classmethod
    def of(cls, directory: str) -> TokenShards:
        """Find and verify the shards in ``directory``.

        Raises:
            DataError: there is no complete set, or a part file is missing or damaged.
        """
        files = list(verify_shards(directory).files)
        filesystem, root = filesystem_for(directory)
        arrow = arrow_filesystem(filesystem)

        def count_rows(file: str) -> int:
            return int(pq.read_metadata(f"{root}/{file}", filesystem=arrow).num_rows)

        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            return cls(directory, files, list(pool.map(count_rows, files)))

    def read(self, shards: Sequence[int]) -> dict[str, np.ndarray]:
        """Return columns ``id``, ``captions`` and ``image_tokens`` (int32 [n, N])."""
        filesystem, root = filesystem_for(self.directory)

        def read_shard(shard: int) -> pa.Table:
            return pq.read_table(pa.BufferReader(read_path(filesystem, f"{root}/{self.files[shard]}")))

        table = _read_all(read_shard, shards)
        return {**_id_and_captions(table), "image_tokens": token_array(table)}


@dataclass(frozen=True)
class ImageShards:
    """Captioned images in Parquet files; a shard is a row group, the smallest unit of a file that can be read.

    Of each shard ``rows`` is the number of its rows.
    """

    path: str
    columns: PairColumns
    groups: list[RowGroup]
    rows: list[int]

    @classmethod
    def of(cls, source: SourceConfig) -> ImageShards:
        """Find the shards of a Parquet source by the files' footers.

        Raises:
            DataError: see :func:`t2i.data.parquet_pairs.open_parquet`.
        """
        found = open_parquet(source)
        return cls(source.path, found.columns, found.groups, [group.rows for group in found.groups])

    def read(self, shards: Sequence[int]) -> dict[str, np.ndarray]:
        """Return columns ``id``, ``captions`` and packed ``image``, including images that cannot be decoded."""
        filesystem, _ = filesystem_for(self.path)

        def read_shard(shard: int) -> pa.Table:
            batches = list(read_row_group(filesystem, self.columns, self.groups[shard]))
            _record_once(self.path, shard, batches)
            return pa.concat_tables(batch.table() for batch in batches)

        table = _read_all(read_shard, shards)
        return {**_id_and_captions(table), **pack_images(table["image"].to_pylist())}


_recorded: set[tuple[str, int]] = set()


def _record_once(path: str, shard: int, batches: Sequence[PairBatch]) -> None:
    """Log which captions of a shard were dropped or mended when this process reads it for the first time."""
    if (path, shard) not in _recorded:
        _recorded.add((path, shard))
        for batch in batches:
            batch.record(None)


def _read_all(read_shard: Callable[[int], pa.Table], shards: Sequence[int]) -> pa.Table:
    """Read shards in parallel and return their rows in the order of ``shards``."""
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return pa.concat_tables(pool.map(read_shard, shards))


def _id_and_captions(table: pa.Table) -> dict[str, np.ndarray]:
    return {"id": np.array(table["id"].to_pylist()), "captions": caption_array(table["captions"].to_pylist())}
