"""Read captioned images in Parquet files by row groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from models.captions import first_good
from t2i.data.ids import PARALLEL_READS, check_unique, file_names, id_text
from t2i.data.pairs import ROWS_PER_BATCH, PairBatch, Piece
from t2i.data.parquet_columns import PairColumns, check_alike, choose_columns, choose_named, has_images
from t2i.data.source import SourceConfig, file_state
from t2i.storage import (
    DataError,
    arrow_filesystem,
    as_data_error,
    filesystem_for,
    is_transient,
    list_files,
    with_retries,
)

READ_BUFFER = 1 << 23
"""Bytes of a column that are read at once: a row group may be larger than the memory."""


@dataclass(frozen=True)
class RowGroup:
    """A row group, the smallest unit of a Parquet file that can be read: its ``number`` in ``file``, and its size.

    Rows without an id of their own get ``<name>/<row in the file>``.
    """

    file: str
    name: str
    number: int
    first_row: int
    rows: int
    size: int


@dataclass(frozen=True)
class ParquetPairs:
    """The row groups of a Parquet source, and the columns of its files."""

    filesystem: AbstractFileSystem
    columns: PairColumns
    groups: list[RowGroup]

    def pieces(self) -> list[Piece]:
        """Return each row group as a piece."""
        return [
            Piece(partial(read_row_group, self.filesystem, self.columns, group), group.rows, group.size)
            for group in self.groups
        ]


def read_row_group(filesystem: AbstractFileSystem, columns: PairColumns, group: RowGroup) -> Iterator[PairBatch]:
    """Yield the pairs of a row group."""
    row = group.first_row
    for batch in read_batches(filesystem, group, columns.names):
        yield _pairs(columns, f"{group.name}/", row, batch)
        row += len(batch)


def _pairs(columns: PairColumns, prefix: str, first_row: int, batch: pa.RecordBatch) -> PairBatch:
    nothing = [None] * len(batch)
    ids = column_values(batch, columns.id) or nothing
    images = column_values(batch, columns.image) or nothing
    captions = [column_values(batch, name) for name in columns.captions]
    return PairBatch(
        [id_text(value) or f"{prefix}{row}" for row, value in enumerate(ids, first_row)],
        [image["bytes"] if isinstance(image, dict) else image for image in images],
        [first_good(sources) for sources in zip(*captions, strict=True)],
    )


def open_parquet(source: SourceConfig, with_images: bool = True) -> ParquetPairs:
    """Return the row groups of a Parquet source by the files' footers; ids are found to be unique.

    Raises:
        DataError: there is no file or no row, a file is truncated or not Parquet, its columns are missing, of another
            type or not those of the other files, or an id comes twice.
    """
    filesystem, files = list_files(source.path, ".parquet")
    columns, groups = _scan(source.path, tuple(files), file_state(filesystem, files), with_images)
    return ParquetPairs(filesystem, columns, groups)


@lru_cache(maxsize=16)
def _scan(
    path: str,
    files: tuple[str, ...],
    state: str,  # noqa: ARG001  changed files are scanned again
    with_images: bool,
) -> tuple[PairColumns, list[RowGroup]]:
    """Return the columns and the row groups of files; kept, as a job checks its sources and then reads them."""
    filesystem, _ = filesystem_for(path)
    footers = _footers(filesystem, files)
    columns = [choose_columns(file, footer.schema.to_arrow_schema(), with_images) for file, footer in footers.items()]
    check_alike(files, columns)
    names = file_names([*files])
    groups = {file: _row_groups(file, names[file], footer) for file, footer in footers.items()}
    if not any(groups.values()):
        raise DataError(f"path is {path!r}: it holds no row.")
    if columns[0].id is not None:
        with as_data_error(path):
            check_unique(path, {file: partial(_read_ids, filesystem, columns[0].id, groups[file]) for file in files})
    return columns[0], [group for of_file in groups.values() for group in of_file]


def read_columns(path: str, names: Collection[str], needed: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every row of a Parquet source, as its position ``<file>/<row>`` and its values by column.

    Only columns with one of ``names``, in whatever case, are read.

    Raises:
        DataError: a file is missing, truncated or not Parquet, or has none of the columns in ``needed``.
    """
    filesystem, files = list_files(path, ".parquet")
    prefixes = file_names(files)
    for file, footer in _footers(filesystem, files).items():
        columns = choose_named(file, footer.schema.to_arrow_schema(), names, needed)
        for group in _row_groups(file, prefixes[file], footer):
            rows = (row for batch in read_batches(filesystem, group, columns) for row in batch.to_pylist())
            yield from ((f"{group.name}/{number}", row) for number, row in enumerate(rows, group.first_row))


def holds_images(path: str) -> bool:
    """Return whether a Parquet source holds images, by its first file.

    Raises:
        DataError: it is missing, truncated or not Parquet.
    """
    filesystem, files = list_files(path, ".parquet")
    return has_images(_footer(filesystem, files[0]).schema.to_arrow_schema())


def _footers(filesystem: AbstractFileSystem, files: Sequence[str]) -> dict[str, pq.FileMetaData]:
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return dict(zip(files, pool.map(partial(_footer, filesystem), files), strict=True))


def _footer(filesystem: AbstractFileSystem, file: str) -> pq.FileMetaData:
    """Return the footer of a file.

    Raises:
        DataError: it is truncated or not Parquet.
    """
    try:
        return with_retries(partial(pq.read_metadata, file, filesystem=arrow_filesystem(filesystem)))
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and is_transient(error):
            raise DataError(f"path is {file!r}: it cannot be read now ({error}).") from error
        raise DataError(f"path is {file!r}: it is truncated or not Parquet, so copy it again.") from error


def _row_groups(file: str, name: str, footer: pq.FileMetaData) -> list[RowGroup]:
    found = [footer.row_group(number) for number in range(footer.num_row_groups)]
    ends = list(accumulate(group.num_rows for group in found))
    return [
        RowGroup(file, name, number, end - group.num_rows, group.num_rows, group.total_byte_size)
        for number, (group, end) in enumerate(zip(found, ends, strict=True))
        if group.num_rows
    ]


def _read_ids(filesystem: AbstractFileSystem, column: str, groups: list[RowGroup]) -> Iterator[str]:
    """Yield the ids of some row groups; those made of file and row are left out, as they are unique."""
    for group in groups:
        for batch in read_batches(filesystem, group, [column]):
            yield from filter(None, map(id_text, column_values(batch, column)))


def column_values(batch: pa.RecordBatch, name: str | None) -> list[Any]:
    """Return the values of a column; an empty list for None."""
    return [] if name is None else batch[name].to_pylist()


def read_batches(filesystem: AbstractFileSystem, group: RowGroup, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a row group, a few rows at a time."""
    reader = _GroupReader(filesystem, group, columns)
    while (batch := with_retries(reader.next)) is not None:
        yield batch


class _GroupReader:
    """Reads a row group batch by batch; after an error it opens the file again and goes on where it was."""

    def __init__(self, filesystem: AbstractFileSystem, group: RowGroup, columns: list[str]) -> None:
        self._filesystem, self._group, self._columns = filesystem, group, columns
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._done = 0

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch; None after the last."""
        try:
            if self._batches is None:
                self._batches = islice(self._open(), self._done, None)
            batch = next(self._batches, None)
        except OSError:
            self._batches = None
            raise
        self._done += 1
        return batch

    def _open(self) -> Iterator[pa.RecordBatch]:
        file = pq.ParquetFile(self._group.file, filesystem=arrow_filesystem(self._filesystem), buffer_size=READ_BUFFER)
        batches: Iterator[pa.RecordBatch] = file.iter_batches(ROWS_PER_BATCH, [self._group.number], self._columns)
        return batches
