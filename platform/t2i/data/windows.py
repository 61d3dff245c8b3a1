"""Training sets that need not fit into memory: read some parts at a time.

Not by Ray Data, which waits for CPUs of the cluster's count where training has them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from t2i.data.columns import caption_array
from t2i.data.packed_images import pack_images
from t2i.data.readers import find_parquet, to_pairs
from t2i.data.source import SourceConfig
from t2i.data.token_shards import token_array, verify_shards
from t2i.storage import filesystem_for, read_path, with_retries

PARALLEL_READS = 8
"""Parts that are read at once."""


class Shards(Protocol):
    """A training set in parts of known sizes."""

    @property
    def rows(self) -> Sequence[int]:
        """The number of rows of each part."""

    def read(self, parts: Sequence[int]) -> dict[str, np.ndarray]:
        """The rows of some parts, one part after the other, as columns."""


@dataclass(frozen=True)
class TokenShards:
    """A complete set of image-token shards: its files below ``directory``, and the number of rows in each."""

    directory: str
    files: list[str]
    rows: list[int]

    @classmethod
    def of(cls, directory: str) -> TokenShards:
        """Look a set up.

        Raises:
            DataError: there is no complete set, or a part is missing or damaged.
        """
        files = list(verify_shards(directory).files)
        filesystem, root = filesystem_for(directory)

        def rows(file: str) -> int:
            return pq.read_metadata(f"{root}/{file}", filesystem=filesystem).num_rows

        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            return cls(directory, files, list(pool.map(rows, files)))

    def read(self, parts: Sequence[int]) -> dict[str, np.ndarray]:
        """Columns ``id``, ``captions`` and ``image_tokens``."""
        filesystem, root = filesystem_for(self.directory)

        def read(part: int) -> pa.Table:
            return pq.read_table(pa.BufferReader(read_path(filesystem, f"{root}/{self.files[part]}")))

        table = _together(read, parts)
        return {**_described(table), "image_tokens": token_array(table)}


@dataclass(frozen=True)
class ImageShards:
    """Captioned images in Parquet files, a part being a row group: the least of such a file that can be read."""

    path: str
    columns: list[str]
    groups: list[tuple[str, int]]
    rows: list[int]

    @classmethod
    def of(cls, source: SourceConfig) -> ImageShards:
        """Look a set up by the files' footers.

        Raises:
            DataError: there is nothing, no Parquet, or columns are missing.
        """
        filesystem, files, columns = find_parquet(source)

        def sizes(file: str) -> list[int]:
            footer = with_retries(partial(pq.read_metadata, file, filesystem=filesystem))
            return [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]

        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            found = dict(zip(files, pool.map(sizes, files), strict=True))
        groups = [(file, group) for file, rows in found.items() for group in range(len(rows))]
        return cls(source.path, columns, groups, [rows for of_file in found.values() for rows in of_file])

    def read(self, parts: Sequence[int]) -> dict[str, np.ndarray]:
        """Columns ``id``, ``captions``, and ``image`` packed, whether it can be decoded or not."""
        filesystem, _ = filesystem_for(self.path)

        def read(part: int) -> pa.Table:
            file, group = self.groups[part]

            def read_group() -> pa.Table:
                with filesystem.open_input_file(file) as opened:
                    return pq.ParquetFile(opened).read_row_group(group, self.columns)

            return to_pairs(with_retries(read_group), self.columns)

        table = _together(read, parts)
        return {**_described(table), **pack_images(table["image"].to_pylist())}


def _together(read: Callable[[int], pa.Table], parts: Sequence[int]) -> pa.Table:
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return pa.concat_tables(pool.map(read, parts))


def _described(table: pa.Table) -> dict[str, np.ndarray]:
    return {"id": np.array(table["id"].to_pylist()), "captions": caption_array(table["captions"].to_pylist())}
