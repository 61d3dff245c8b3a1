"""Pairs, and what a reader of captioned images has to give: pieces, each of which is read by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from models.captions import Captions
from t2i.data.skipped import record_captions

PAIR_SCHEMA = pa.schema({"id": pa.string(), "image": pa.binary(), "captions": pa.list_(pa.string())})
ROWS_PER_BATCH = 256


@dataclass(frozen=True)
class PairBatch:
    """Some pairs as a reader finds them; an image is None if there is none."""

    ids: list[str]
    images: list[bytes | None]
    captions: list[Captions]

    def table(self) -> pa.Table:
        """Return the pairs as a table."""
        return pairs_table(self.ids, self.images, [captions.texts for captions in self.captions])

    def record(self, report_dir: str | None) -> None:
        """Log which captions were dropped or mended, and list them in ``report_dir``."""
        found = zip(self.ids, self.captions, strict=True)
        problems = {row_id: captions.problems for row_id, captions in found if captions.problems}
        if problems:
            record_captions(report_dir, problems, len(self.ids))


def pairs_table(ids: list[str], images: list[bytes | None], captions: list[list[str]]) -> pa.Table:
    """Return a table of pairs; a missing image (None) becomes empty."""
    return pa.table({"id": ids, "image": [image or b"" for image in images], "captions": captions}, schema=PAIR_SCHEMA)


@dataclass(frozen=True)
class Piece:
    """A piece of a source: ``read`` yields its pairs, ``rows`` of them, which take about ``size`` bytes."""

    read: Callable[[], Iterable[PairBatch]]
    rows: int
    size: int


class PairsDatasource(Datasource):
    """Reads the pieces of a source with Ray, in their order; lists problems of captions in ``report_dir``."""

    def __init__(self, pieces: Sequence[Piece], report_dir: str | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pieces = pieces
        self._report_dir = report_dir

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all pieces."""
        return sum(piece.size for piece in self._pieces)

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: object = None,  # noqa: ARG002  part of Ray's interface
    ) -> list[ReadTask]:
        """Return at most ``parallelism`` tasks, each of which reads some pieces one after the other."""
        runs = np.array_split(np.arange(len(self._pieces)), min(parallelism, len(self._pieces)))
        return [self._task([self._pieces[i] for i in run], per_task_row_limit) for run in runs]

    def _task(self, pieces: Sequence[Piece], row_limit: int | None) -> ReadTask:
        report_dir, size = self._report_dir, sum(piece.size for piece in pieces)

        def read() -> Iterator[pa.Table]:
            for batch in (batch for piece in pieces for batch in piece.read()):
                batch.record(report_dir)
                yield batch.table()

        metadata = BlockMetadata(sum(piece.rows for piece in pieces), size, exec_stats=None, task_exec_stats=None)
        return ReadTask(read, metadata, PAIR_SCHEMA, row_limit)
