"""Shards: numbered files of a folder, each written whole, with a done-record that is written after it.

What one shard holds never depends on workers, on retries or on other shards. So a stage that was killed anywhere goes
on with the shards that have no record, and ends with the files that it would have written anyway.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from t2i.storage import DataError, as_data_error, filesystem_for, list_folder, read_file, write_file

READERS = 16
"""Files that are read at once."""


@dataclass(frozen=True)
class ShardFolder:
    """The shards of one stage in the folder ``uri``, local or in a store; their files end in ``suffix``."""

    uri: str
    suffix: str

    def path(self, shard: int) -> str:
        """Return the path of a shard's file."""
        return f"{self.uri}/{shard:05}{self.suffix}"

    def write(self, shard: int, data: bytes, record: Mapping[str, Any]) -> None:
        """Write a shard's file, then its done-record: ``record`` with the file's SHA-256 and size in bytes."""
        filesystem, folder = filesystem_for(self.uri)
        with as_data_error(self.uri):
            write_file(filesystem, f"{folder}/{shard:05}{self.suffix}", data)
            document = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), **record}
            write_file(filesystem, f"{folder}/{shard:05}.json", json.dumps(document).encode())

    def done(self) -> set[int]:
        """Return the numbers of the finished shards: those with a record."""
        filesystem, folder = filesystem_for(self.uri)
        with as_data_error(self.uri):
            names = [entry.name for entry in list_folder(filesystem, folder)]
        return {int(name.removesuffix(".json")) for name in names if name.endswith(".json")}

    def read(self, shard: int) -> bytes:
        """Return the content of a finished shard.

        Raises:
            DataError: it is missing, or is not what its record says.
        """
        data = read_file(self.path(shard))
        if hashlib.sha256(data).hexdigest() != self.record(shard)["sha256"]:
            raise DataError(f"{self.path(shard)} is damaged: delete its record, the .json beside it, and start again.")
        return data

    def records(self, shards: int) -> Iterator[dict[str, Any]]:
        """Yield the done-records of the shards 0 to ``shards`` - 1, in order."""
        with ThreadPoolExecutor(READERS) as pool:
            yield from pool.map(self.record, range(shards))

    def record(self, shard: int) -> dict[str, Any]:
        """Return a finished shard's done-record."""
        record: dict[str, Any] = json.loads(read_file(f"{self.uri}/{shard:05}.json"))
        return record
