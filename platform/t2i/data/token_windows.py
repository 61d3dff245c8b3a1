"""Image-token shards that need not fit into memory: read some parts at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from t2i.data.columns import to_columns
from t2i.data.shards import read_parts, verify_shards
from t2i.data.storage import filesystem_for


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

        with ThreadPoolExecutor(8) as pool:
            return cls(directory, files, list(pool.map(rows, files)))

    def read(self, parts: Sequence[int]) -> dict[str, np.ndarray]:
        """The rows of some parts together, sorted by id, by Ray Data.

        It takes no CPU of the cluster's count: training may have all of them.
        """
        return to_columns(read_parts(self.directory, [self.files[part] for part in parts], num_cpus=0))
