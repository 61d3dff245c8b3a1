"""Captioned images in Parquet as others write them, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2i.data import ImageShards, SourceConfig, parquet_pairs, read_captions
from t2i.data.pairs import PairBatch
from t2i.data.parquet_pairs import open_parquet
from t2i.storage import DataError, retry

IMAGES = [b"one", b"two", b"three"]
CAPTIONS = ["a bird", "two cats", "no dog"]


def write(path: Path, row_group_size: int = 2, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def batches(path: Path) -> list[PairBatch]:
    return [batch for piece in open_parquet(SourceConfig(path=str(path))).pieces() for batch in piece.read()]


def rows(path: Path) -> list[tuple[str, bytes | None, list[str]]]:
    return [row for b in batches(path) for row in zip(b.ids, b.images, [c.texts for c in b.captions], strict=True)]


EXPECTED = [(str(i), image, [text]) for i, (image, text) in enumerate(zip(IMAGES, CAPTIONS, strict=True))]
IDS = ["0", "1", "2"]


@pytest.mark.parametrize(
    "columns",
    [
        {"id": IDS, "image": IMAGES, "captions": [[text] for text in CAPTIONS]},
        {"key": IDS, "jpg": IMAGES, "caption": CAPTIONS},
        {"TEXT": CAPTIONS, "Image": IMAGES, "ID": IDS, "width": [1, 2, 3]},
        {"id": [0, 1, 2], "image": [{"bytes": image, "path": "x.png"} for image in IMAGES], "text": CAPTIONS},
        {"id": [0.0, 1.0, 2.0], "image": IMAGES, "text": [text.encode() for text in CAPTIONS]},
        {"id": [row_id.encode() for row_id in IDS], "image": IMAGES, "text": CAPTIONS},
        {"id": pa.array(IDS, pa.large_string()), "image": pa.array(IMAGES, pa.large_binary()), "text": CAPTIONS},
        {"id": pa.array(IDS).dictionary_encode(), "image": IMAGES, "text": pa.array(CAPTIONS).dictionary_encode()},
        {"id": pa.array(IDS, pa.string_view()), "image": IMAGES, "text": pa.array(CAPTIONS, pa.string_view())},
        {
            "id": IDS,
            "image": IMAGES,
            "captions": pa.array([[text] for text in CAPTIONS], pa.large_list(pa.large_string())),
        },
        {"id": IDS, "image": IMAGES, "captions": [[[None, text], []] for text in CAPTIONS]},
        {"id": IDS, "image": IMAGES, "captions": [None, [" "], ["no dog"]], "caption": [*CAPTIONS[:2], "worse"]},
        {"id": IDS, "image": ["a.png"] * 3, "png": IMAGES, "text": [1, 2, 3], "caption": CAPTIONS},
    ],
    ids=[
        "ours",
        "img2dataset",
        "upper case",
        "structs",
        "floats and bytes",
        "ids of bytes",
        "large",
        "dictionaries",
        "views",
        "large lists",
        "nested lists",
        "a second column",
        "columns of another type",
    ],
)
def test_columns_as_others_write_them(tmp_path: Path, columns: dict[str, Any]) -> None:
    path = write(tmp_path / "a.parquet", **columns)
    assert rows(path) == EXPECTED
    captions = read_captions(SourceConfig(path=str(path)))
    assert [(caption.id, [caption.text]) for caption in captions] == [(row_id, texts) for row_id, _, texts in EXPECTED]
    shards = ImageShards.of(SourceConfig(path=str(path)))
    assert shards.rows == [2, 1]
    assert shards.read([1, 0])["id"].tolist() == ["2", "0", "1"]


def test_rows_without_an_id_are_named_by_file_and_row(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "0.parquet", image=IMAGES, text=CAPTIONS)
    assert [row_id for row_id, _, _ in rows(tmp_path)] == [f"{folder}/0/{i}" for folder in "xy" for i in range(3)]
    assert [row_id for row_id, _, _ in rows(tmp_path / "x" / "0.parquet")] == ["0/0", "0/1", "0/2"]
    captions = read_captions(SourceConfig(path=str(tmp_path)))
    assert [caption.id for caption in captions] == [row_id for row_id, _, _ in rows(tmp_path)]
    write(tmp_path / "y" / "0.parquet", id=["a", None, "b"], image=IMAGES, text=CAPTIONS)
    assert [row_id for row_id, _, _ in rows(tmp_path / "y")] == ["a", "0/1", "b"]


def test_missing_images_and_captions_stay_rows(tmp_path: Path) -> None:
    images = [None, {"bytes": None, "path": "x"}, {"bytes": b"", "path": "y"}]
    path = write(tmp_path / "a.parquet", id=IDS, image=images, caption=["a bird", None, " "])
    assert [(image, texts) for _, image, texts in rows(path)] == [(None, ["a bird"]), (None, []), (b"", [])]
    assert [c.problems for batch in batches(path) for c in batch.captions] == [[], [], ["a caption is blank"]]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"id": IDS, "captions": CAPTIONS}, r"it has no column image, jpg, png, webp, only id, captions\.$"),
        ({"id": IDS, "image": IMAGES}, r"it has no column captions, caption, text, only id, image\.$"),
        ({"id": IDS, "image": IMAGES, "caption": [1, 2, 3]}, r"column caption is int64, and has to hold text or lists"),
        ({"id": IDS, "image": IMAGES, "caption": [0.5, float("nan"), 1.0]}, r"column caption is double, and has to"),
        (
            {"id": IDS, "image": ["a.png"] * 3, "text": CAPTIONS},
            r"column image is string, and has to hold the bytes",
        ),
        ({"id": [], "image": [], "text": []}, r"it holds no row\.$"),
    ],
    ids=["no images", "no captions", "numbers", "floats", "paths", "no rows"],
)
def test_other_columns_are_refused(tmp_path: Path, columns: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=f"^path is .*a.parquet': {sentence}"):
        open_parquet(SourceConfig(path=str(write(tmp_path / "a.parquet", **columns))))


def test_files_with_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", id=["a"], image=[b"1"], caption=["one"])
    write(tmp_path / "b.parquet", caption=["two"], more=[7], image=[b"2"], id=["b"])
    assert len(rows(tmp_path)) == 2
    write(tmp_path / "c.parquet", id=["c"], image=[b"3"], text=["three"])
    with pytest.raises(DataError, match=r"c\.parquet': its columns id, image, text are not those of a\.parquet, id"):
        open_parquet(SourceConfig(path=str(tmp_path)))


@pytest.mark.parametrize("ids", [(["a", "b"], ["c", "a"]), (["a", "b", "a"], ["c"]), ([1, 2], [2.0])])
def test_repeated_ids_are_refused_before_any_work(tmp_path: Path, ids: tuple[list[Any], list[Any]]) -> None:
    for name, of_file in zip("xy", ids, strict=True):
        images, texts = [b"1"] * len(of_file), ["one"] * len(of_file)
        write(tmp_path / f"{name}.parquet", 1, id=of_file, image=images, text=texts)
    with pytest.raises(DataError, match=r"^path is .*: id (a|2) comes twice \(in x(\.parquet and y)?\.parquet\), so"):
        open_parquet(SourceConfig(path=str(tmp_path)))


def test_a_store_that_fails_half_way_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", 600, id=[*map(str, range(600))], image=[b"1"] * 600, text=["one"] * 600)
    opened = parquet_pairs._GroupReader._open
    failures = [1, 2]

    def fails_twice(reader: parquet_pairs._GroupReader) -> Any:
        for number, batch in enumerate(opened(reader)):
            if failures and number == failures[0]:
                failures.pop(0)
                raise retry.TruncatedReadError("cut off")
            yield batch

    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(60, 0.01, 0.05))
    pairs = open_parquet(SourceConfig(path=str(path)))
    monkeypatch.setattr(parquet_pairs._GroupReader, "_open", fails_twice)
    ids = [row_id for batch in pairs.pieces()[0].read() for row_id in batch.ids]
    assert ids == [*map(str, range(600))]
    assert not failures
