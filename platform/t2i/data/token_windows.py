"""Image-token shards that need not fit into memory: read some parts at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from t2i.data.shards import token_array, verify_shards
from t2i.data.storage import filesystem_for, read_path

READERS = 8
"""Parts that are read at once."""


@dataclass(frozen=True)
class TokenParts:
    """A complete set of shards: its files below ``directory``, and the number of rows in each."""

    directory: str
    files: list[str]
    rows: list[int]

    @classmethod
    def of(cls, directory: str) -> TokenParts:
        """Look a set up.

        Raises:
            DataError: there is no complete set, or a part is missing or damaged.
        """
        files = list(verify_shards(directory).files)
        filesystem, root = filesystem_for(directory)

        def rows(file: str) -> int:
            return pq.read_metadata(f"{root}/{file}", filesystem=filesystem).num_rows

        with ThreadPoolExecutor(READERS) as pool:
            return cls(directory, files, list(pool.map(rows, files)))

    def read(self, parts: Sequence[int]) -> dict[str, np.ndarray]:
        """The rows of some parts, one part after the other, as columns ``id``, ``captions`` and ``image_tokens``.

        Not by Ray Data, which waits for CPUs of the cluster's count where training has them all.
        """
        filesystem, root = filesystem_for(self.directory)

        def read(part: int) -> pa.Table:
            return pq.read_table(pa.BufferReader(read_path(filesystem, f"{root}/{self.files[part]}")))

        with ThreadPoolExecutor(READERS) as pool:
            table = pa.concat_tables(pool.map(read, parts))
        captions = np.empty(len(table), object)
        captions[:] = table["captions"].to_pylist()
        return {"id": np.array(table["id"].to_pylist()), "captions": captions, "image_tokens": token_array(table)}
