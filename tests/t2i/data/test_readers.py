from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2i.data import SourceConfig, check_pairs, decode_pairs, read_ids, read_pairs
from t2i.storage import DataError, put_directory
from tests.t2i.data.conftest import write_images

Row = dict[str, Any]
Writers = dict[str, Callable[[list[Row], Path], Path]]

FORMATS = ["parquet", "coco", "karpathy", "webdataset"]


def taken(source: SourceConfig) -> list[Row]:
    rows = read_pairs(source).take_all()
    return [row | {"captions": list(row["captions"])} for row in rows]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("layout", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path: Path, rows: list[Row], write: Writers, layout: str) -> None:
    path = write[layout](rows, tmp_path / "set")
    split = "test" if layout == "karpathy" else None
    assert taken(SourceConfig(path=str(path), split=split)) == rows
    assert taken(SourceConfig(path=str(path), split=split, limit=4)) == rows[:4]
    assert read_ids(SourceConfig(path=str(path), split=split)) == [row["id"] for row in rows]
    assert read_ids(SourceConfig(path=str(path), split=split, limit=4)) == [row["id"] for row in rows[:4]]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("layout", FORMATS)
def test_every_format_reads_s3(bucket: str, tmp_path: Path, rows: list[Row], write: Writers, layout: str) -> None:
    path = write[layout](rows, tmp_path / "set")
    put_directory(tmp_path / "set", f"{bucket}/set")
    source = SourceConfig(path=f"{bucket}/{path.relative_to(tmp_path)}")
    source.split = "test" if layout == "karpathy" else None
    assert taken(source) == rows


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_table_beside_a_tar_is_not_read(tmp_path: Path, rows: list[Row], write: Writers) -> None:
    """As img2dataset writes it: the metadata of each shard's images."""
    folder = write["webdataset"](rows, tmp_path / "tars")
    pq.write_table(pa.table({"key": [row["id"] for row in rows], "url": ["http://x"] * 6}), folder / "00000.parquet")
    assert taken(SourceConfig(path=str(folder))) == rows


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_what_is_wrong_with_captions_is_reported(tmp_path: Path, rows: list[Row], write: Writers) -> None:
    rows[1]["captions"] = [" ", "good"]
    rows[4]["captions"] = ["half \x00"]
    read_pairs(SourceConfig(path=str(write["parquet"](rows, tmp_path / "set"))), str(tmp_path / "report")).take_all()
    written = [json.loads(file.read_text()) for file in (tmp_path / "report").iterdir()]
    assert [part["count"] for part in written] == [1, 1]
    problems = {row["id"]: row["problems"] for part in written for row in part["captions"]}
    assert problems == {
        rows[1]["id"]: ["a caption is blank"],
        rows[4]["id"]: ["control characters left out of a caption"],
    }


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_missing_image_file_leaves_an_empty_image(tmp_path: Path, rows: list[Row], write: Writers) -> None:
    path = write["coco"](rows, tmp_path)
    (tmp_path / "val2017" / f"{rows[2]['id']}.png").unlink()
    assert [row["image"] for row in taken(SourceConfig(path=str(path)))] == [
        b"" if i == 2 else row["image"] for i, row in enumerate(rows)
    ]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_folder_of_images_is_read_where_no_captions_are_needed(tmp_path: Path, rows: list[Row]) -> None:
    write_images(rows, tmp_path)
    (tmp_path / "notes.txt").touch()
    source = SourceConfig(path=str(tmp_path))
    expected = [row | {"id": row["id"].removeprefix("animals/"), "captions": []} for row in rows]
    pairs = read_pairs(source, need_captions=False)
    assert [row | {"captions": list(row["captions"])} for row in pairs.take_all()] == expected
    assert read_ids(source) == [row["id"] for row in expected]
    assert decode_pairs(pairs, 16, need_captions=False).count() == len(rows)
    assert decode_pairs(pairs, 16).count() == 0


def test_images_without_captions_are_refused_where_they_are_needed(tmp_path: Path, rows: list[Row]) -> None:
    write_images(rows, tmp_path)
    with pytest.raises(DataError, match="format is 'images': it has images but no captions, so use parquet, coco"):
        check_pairs(SourceConfig(path=str(tmp_path)))
    check_pairs(SourceConfig(path=str(tmp_path)), need_captions=False)


def test_image_files_that_differ_in_the_suffix_alone_are_refused(tmp_path: Path) -> None:
    for name in ("7.jpg", "7.PNG", "8.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="2 of its files have the id 7, so give them other names"):
        check_pairs(SourceConfig(path=str(tmp_path)), need_captions=False)


def test_captions_alone_have_no_images_to_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="format is 'jsonl': it has captions but no images, so use parquet, coco"):
        read_ids(SourceConfig(path=str(tmp_path / "prompts.jsonl")))


def test_a_missing_path_is_refused() -> None:
    with pytest.raises(DataError, match=r"^path is 'nowhere/train.parquet': there is no such file or folder"):
        check_pairs(SourceConfig(path="nowhere/train.parquet"))


def test_captions_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="format is 'text': it has captions but no images, so use parquet, coco"):
        check_pairs(SourceConfig(path=str(tmp_path / "prompts.txt")))


@pytest.mark.parametrize("kept", [0.5, 0.99, 0])
@pytest.mark.parametrize(("layout", "file"), [("parquet", "part-1.parquet"), ("webdataset", "00001.tar")])
def test_truncated_files_are_refused(
    tmp_path: Path, rows: list[Row], write: Writers, layout: str, file: str, kept: float
) -> None:
    path = write[layout](rows, tmp_path / "set") / file
    whole = path.read_bytes().rstrip(b"\0") if layout == "webdataset" else path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError, match=f"^path is '.*{file}': it is truncated or not [^.]*, so copy it again"):
        check_pairs(SourceConfig(path=str(tmp_path / "set")))


def test_a_json_without_captions_is_refused(tmp_path: Path) -> None:
    document = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "bbox": []}]}
    (tmp_path / "instances_val2017.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="it has images but no captions"):
        check_pairs(SourceConfig(path=str(tmp_path / "instances_val2017.json")))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it holds nothing that ends in \.parquet"):
        check_pairs(SourceConfig(path=str(tmp_path), format="parquet"))


def test_sources_on_s3_are_checked_without_ray(
    bucket: str, tmp_path: Path, rows: list[dict[str, Any]], write: dict[str, Callable[..., Path]]
) -> None:
    put_directory(write["parquet"](rows, tmp_path), f"{bucket}/set")
    check_pairs(SourceConfig(path=f"{bucket}/set"))
    with pytest.raises(DataError, match="there is no such file or folder"):
        check_pairs(SourceConfig(path=f"{bucket}/missing.parquet"))
