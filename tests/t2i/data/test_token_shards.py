from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.data import Dataset

from t2i.data import find_finished_rows, is_complete, load_columns, read_token_shards, skip_finished, write_token_shards
from t2i.data.tensors import tensor_column
from t2i.data.token_shards import verify_shards
from t2i.storage import DataError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
METADATA: dict[str, Any] = {"dvae": "0123456789ab", "grid": [2, 3]}


def token_table(rows: int) -> pa.Table:
    tokens = np.random.default_rng(rows).integers(0, 512, (rows, 6), dtype=np.int32)
    ids = [f"{i:04}" for i in range(rows)]
    return pa.table({"id": ids, "captions": [["a", "b"]] * rows}).append_column("image_tokens", tensor_column(tokens))


def token_dataset(rows: int) -> Dataset:
    return ray.data.from_arrow(token_table(rows))


@pytest.fixture(params=["local", "s3"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    root = str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")
    return f"{root}/tokens/train"


def test_what_is_written_is_read(directory: str) -> None:
    done: list[int] = []
    dataset = token_dataset(100)
    manifest = write_token_shards(dataset, directory, metadata=METADATA, rows_per_part=40, progress=done.append)
    assert sorted(done) == done
    assert done[-1] == manifest.rows == 100
    assert len(manifest.files) > 1
    dataset, metadata = read_token_shards(directory)
    assert metadata == METADATA
    columns, expected = load_columns(dataset), load_columns(token_dataset(100))
    assert columns["image_tokens"].dtype == np.int32
    assert all(np.array_equal(columns[name], expected[name]) for name in ("id", "captions", "image_tokens"))


def test_a_second_write_replaces_the_first(directory: str) -> None:
    write_token_shards(token_dataset(5), directory, metadata=METADATA)
    write_token_shards(token_dataset(7), directory, metadata=METADATA)
    assert read_token_shards(directory)[0].count() == 7
    assert is_complete(directory, METADATA)
    assert not is_complete(directory, METADATA | {"dvae": "another"})


def test_a_killed_writer_leaves_the_old_set(tmp_path: Path) -> None:
    def dies_after_the_first_part(_: int) -> None:
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


def test_a_killed_writer_is_continued(directory: str) -> None:
    first = token_dataset(100).repartition(10)
    with pytest.raises(KeyboardInterrupt):
        write_token_shards(first, directory, metadata=METADATA, rows_per_part=10, progress=stop_after(40))
    finished = find_finished_rows(directory, METADATA)
    assert 40 <= len(finished.ids) < 100
    assert not len(find_finished_rows(directory, METADATA | {"dvae": "another"}).ids)

    rest = skip_finished(token_dataset(100), finished)
    assert rest.count() == 100 - len(finished.ids)
    manifest = write_token_shards(rest, directory, metadata=METADATA, finished=finished)
    assert manifest.rows == 100
    assert set(finished.files) < {name.split("/")[1] for name in manifest.files}
    columns, expected = load_columns(read_token_shards(directory)[0]), load_columns(token_dataset(100))
    assert np.array_equal(columns["image_tokens"], expected["image_tokens"])


def stop_after(rows: int) -> Callable[[int], None]:
    def progress(done: int) -> None:
        if done >= rows:
            raise KeyboardInterrupt

    return progress


def test_a_set_killed_before_its_manifest_needs_no_more_rows(tmp_path: Path) -> None:
    write_token_shards(token_dataset(5), str(tmp_path), metadata=METADATA)
    (tmp_path / "manifest.json").unlink()
    finished = find_finished_rows(str(tmp_path), METADATA)
    rest = skip_finished(token_dataset(5), finished)
    assert write_token_shards(rest, str(tmp_path), metadata=METADATA, finished=finished).rows == 5
    assert read_token_shards(str(tmp_path))[0].count() == 5


def test_damage_is_refused(tmp_path: Path) -> None:
    write_token_shards(token_dataset(5), str(tmp_path), metadata=METADATA)
    part = next(tmp_path.glob("attempt-*/part-*.parquet"))
    whole = part.read_bytes()
    for damaged in (whole[:-1], whole[:20] + b"\xff" + whole[21:], None):
        part.unlink() if damaged is None else part.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{part.name} is missing or damaged: run jobs/encode_images"):
            verify_shards(str(tmp_path))
        assert not is_complete(str(tmp_path), METADATA)


def test_parts_are_plain_parquet(tmp_path: Path) -> None:
    write_token_shards(token_dataset(5), str(tmp_path), metadata=METADATA)
    names = json.loads((tmp_path / "manifest.json").read_text())["files"]
    table = pa.parquet.read_table([tmp_path / name for name in names])
    assert table.schema.field("image_tokens").type == pa.list_(pa.int32(), 6)


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    nothing = token_dataset(5).filter(lambda _: False)
    with pytest.raises(DataError, match="would hold no row: no image of the source could be used"):
        write_token_shards(nothing, str(tmp_path), metadata=METADATA)
    assert not (tmp_path / "manifest.json").exists()
