"""Captioned images read a few row groups at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2i.data import ImageShards, SourceConfig
from t2i.storage import DataError, put_directory


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, rows: list[dict[str, Any]], tmp_path: Path) -> str:
    """Six rows in two files of row groups of two and one."""
    for part in range(2):
        table = pa.Table.from_pylist(rows[part * 3 : part * 3 + 3])
        pq.write_table(table, tmp_path / f"part-{part}.parquet", row_group_size=2)
    if request.param == "local":
        return str(tmp_path)
    bucket = request.getfixturevalue("bucket")
    put_directory(tmp_path, f"{bucket}/set")
    return f"{bucket}/set"


def test_every_shard_holds_the_rows_of_its_group(folder: str, rows: list[dict[str, Any]]) -> None:
    shards = ImageShards.of(SourceConfig(path=folder))
    assert shards.rows == [2, 1, 2, 1]
    columns = shards.read([3, 0])
    expected = [rows[5], rows[0], rows[1]]
    assert columns["id"].tolist() == [row["id"] for row in expected]
    assert columns["captions"].tolist() == [row["captions"] for row in expected]
    ends = columns["image_ends"]
    files = [columns["image"][start:end].tobytes() for start, end in zip([0, *ends], ends, strict=False)]
    assert files == [row["image"] for row in expected]


def test_captions_that_are_dropped_are_logged_once(tmp_path: Path, data_warnings: list[str]) -> None:
    pq.write_table(pa.table({"id": ["a"], "image": [b"1"], "captions": [[" ", "good"]]}), tmp_path / "a.parquet")
    shards = ImageShards.of(SourceConfig(path=str(tmp_path)))
    assert [shards.read([0])["captions"][0] for _ in range(2)] == [["good"], ["good"]]
    assert data_warnings == ["captions of 1 of 1 images dropped or mended, such as a: a caption is blank."]


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet.*truncated or not Parquet"):
        ImageShards.of(SourceConfig(path=str(tmp_path)))
