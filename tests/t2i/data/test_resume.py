"""Which rows of a killed writer count as finished, and which are skipped for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from t2i.data import find_finished_rows
from t2i.data.part_files import _attempt_folder, _write_part
from t2i.data.resume import _unfinished, digests
from t2i.data.tensors import tensor_column
from t2i.data.token_shards import _encode

METADATA: dict[str, Any] = {"dvae": "0123456789ab", "grid": [2, 3]}


def token_table(rows: int) -> pa.Table:
    tokens = np.random.default_rng(rows).integers(0, 512, (rows, 6), dtype=np.int32)
    ids = [f"{i:04}" for i in range(rows)]
    return pa.table({"id": ids, "captions": [["a", "b"]] * rows}).append_column("image_tokens", tensor_column(tokens))


def test_parts_that_are_damaged_or_share_rows_do_not_count(tmp_path: Path) -> None:
    def part(ids: range) -> Path:
        table = token_table(20).slice(ids.start, len(ids))
        folder = tmp_path / _attempt_folder(METADATA)
        return folder / _write_part(table, LocalFileSystem(), str(folder), _encode, ".parquet")["name"][0].as_py()

    parts = [part(range(0, 5)), part(range(4, 10)), part(range(10, 15)), part(range(15, 20))]
    parts[2].write_bytes(parts[2].read_bytes()[:-1])
    (parts[0].parent / f"{parts[3].name}.1234.part").write_bytes(b"half")
    finished = find_finished_rows(str(tmp_path), METADATA)
    first = min(path.name for path in parts[:2])
    assert set(finished.files) == {first, parts[3].name}
    kept = range(0, 5) if first == parts[0].name else range(4, 10)
    assert [i for i in range(20) if f"{i:04}" in finished] == [*kept, *range(15, 20)]


def test_an_image_is_skipped_when_all_its_views_are_finished() -> None:
    known = np.sort(digests(["a#0", "a#1", "b#1"]))
    table = pa.table({"id": ["a", "b", "c"]})
    assert _unfinished(known, 2, table)["id"].to_pylist() == ["b", "c"]
    views = pa.table({"id": ["b#0", "b#1", "c#0", "c#1"]})
    assert _unfinished(known, 0, views)["id"].to_pylist() == ["b#0", "c#0", "c#1"]
