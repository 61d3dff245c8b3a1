from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.data import Dataset

from t2i.data import DataError, is_complete, read_token_shards, to_columns, write_token_shards
from t2i.data.shards import verify_shards
from t2i.data.tensors import tensor_column

pytestmark = pytest.mark.ray
METADATA: dict[str, Any] = {"dvae": "0123456789ab", "grid": [2, 3]}


def token_table(rows: int) -> pa.Table:
    tokens = np.random.default_rng(rows).integers(0, 512, (rows, 6), dtype=np.int32)
    ids = [f"{i:04}" for i in range(rows)]
    return pa.table({"id": ids, "captions": [["a", "b"]] * rows}).append_column("image_tokens", tensor_column(tokens))


def token_dataset(rows: int) -> Dataset:
    return ray.data.from_arrow(token_table(rows))


@pytest.fixture(params=["local", "s3"])
def directory(request: pytest.FixtureRequest, ray_cluster: None, tmp_path: Path) -> str:
    root = str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")
    return f"{root}/tokens/train"


def test_what_is_written_is_read(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2i.data.shards.ROWS_PER_PART", 40)
    done: list[int] = []
    manifest = write_token_shards(token_dataset(100), directory, metadata=METADATA, progress=done.append)
    assert sorted(done) == done
    assert done[-1] == manifest.rows == 100
    assert len(manifest.files) > 1
    dataset, metadata = read_token_shards(directory)
    assert metadata == METADATA
    columns, expected = to_columns(dataset), to_columns(token_dataset(100))
    assert columns["image_tokens"].dtype == np.int32
    assert all(np.array_equal(columns[name], expected[name]) for name in ("id", "captions", "image_tokens"))


def test_a_second_write_replaces_the_first(directory: str) -> None:
    write_token_shards(token_dataset(5), directory, metadata=METADATA)
    write_token_shards(token_dataset(7), directory, metadata=METADATA)
    assert read_token_shards(directory)[0].count() == 7
    assert is_complete(directory, METADATA)
    assert not is_complete(directory, METADATA | {"dvae": "another"})


def test_a_killed_writer_leaves_the_old_set(ray_cluster: None, tmp_path: Path) -> None:
    def dies_after_the_first_part(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_token_shards(token_dataset(5), str(tmp_path), metadata=METADATA, progress=dies_after_the_first_part)
    assert list(tmp_path.glob("attempt-*/part-*.parquet"))
    with pytest.raises(DataError, match=r"has no complete set of image tokens: run jobs/encode_images.py first"):
        read_token_shards(str(tmp_path))
    write_token_shards(token_dataset(7), str(tmp_path), metadata=METADATA)
    with pytest.raises(KeyboardInterrupt):
        write_token_shards(token_dataset(5), str(tmp_path), metadata=METADATA, progress=dies_after_the_first_part)
    assert read_token_shards(str(tmp_path))[0].count() == 7


def test_damage_is_refused(ray_cluster: None, tmp_path: Path) -> None:
    write_token_shards(token_dataset(5), str(tmp_path), metadata=METADATA)
    part = next(tmp_path.glob("attempt-*/part-*.parquet"))
    whole = part.read_bytes()
    for damaged in (whole[:-1], whole[:20] + b"\xff" + whole[21:], None):
        part.unlink() if damaged is None else part.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{part.name} is missing or damaged: delete .* and encode again"):
            verify_shards(str(tmp_path))
        assert not is_complete(str(tmp_path), METADATA)


def test_parts_are_plain_parquet(ray_cluster: None, tmp_path: Path) -> None:
    write_token_shards(token_dataset(5), str(tmp_path), metadata=METADATA)
    names = json.loads((tmp_path / "manifest.json").read_text())["files"]
    table = pa.parquet.read_table([tmp_path / name for name in names])
    assert table.schema.field("image_tokens").type == pa.list_(pa.int32(), 6)


def test_an_empty_set_is_refused(ray_cluster: None, tmp_path: Path) -> None:
    nothing = token_dataset(5).filter(lambda row: False)
    with pytest.raises(DataError, match="would hold no row: no image of the source could be used"):
        write_token_shards(nothing, str(tmp_path), metadata=METADATA)
    assert not (tmp_path / "manifest.json").exists()
