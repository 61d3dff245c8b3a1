from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t2i.data import Caption, SourceConfig, read_captions
from t2i.storage import DataError

EXPECTED = [Caption("7", "a red bird"), Caption("8", "two cats")]


def captions(folder: Path, name: str, text: str, **settings: Any) -> list[Caption]:
    (folder / name).write_text(text)
    return read_captions(SourceConfig(path=str(folder / name), **settings))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "uid,caption\n7,a red bird\n8,two cats\n"),
        ("a.tsv", "filename\ttext\n7.jpg\ta red bird\n8.jpg\ttwo cats\n"),
        ("a.csv", '\ufeffid,prompt,other\n7," a red bird ",x\n8,two cats,y\n'),
        ("a.json", json.dumps({"7": "a red bird", "8": "two cats"})),
        (
            "a.json",
            json.dumps(
                {
                    "images": [{"id": 1, "file_name": "7.jpg"}, {"id": 2, "file_name": "8.jpg"}],
                    "annotations": [
                        {"image_id": 2, "caption": "two cats"},
                        {"image_id": 1, "caption": "a red bird"},
                        {"image_id": 1, "caption": "another"},
                    ],
                }
            ),
        ),
        ("a.txt", "\n" * 6 + "a red bird\n two cats \n"),
        ("a.txt", "\ufeff" + "\r\n" * 6 + "a red\u2028bird\r\ntwo\x0b\x85cats"),
        ("a.csv", 'ID,Caption\n7,"a red\nbird"\n8,two\x0ccats\n9,\n10, \x00 \n'),
        ("a.csv", "id,captions,text\n7,,a red bird\n8,two cats,\n"),
        ("a.json", json.dumps({"7": ["a red bird", "x"], "8": [None, "two cats"], "9": None, "10": 7, "11": " "})),
        ("a.json", json.dumps({"7": "a red \ud83d bird", "8": "two\ncats"})),
    ],
    ids=[
        "csv",
        "tsv",
        "csv with a BOM",
        "id to caption",
        "coco",
        "text",
        "other line ends",
        "csv with blanks",
        "csv with two columns",
        "id to captions",
        "half a pair",
    ],
)
def test_lists_people_have(tmp_path: Path, name: str, text: str) -> None:
    assert captions(tmp_path, name, text) == EXPECTED


def test_the_limit_keeps_the_first(tmp_path: Path) -> None:
    assert captions(tmp_path, "a.txt", "one\ntwo\nthree", limit=2) == [Caption("1", "one"), Caption("2", "two")]


def test_the_first_caption_of_parquet_rows(
    tmp_path: Path, rows: list[dict[str, Any]], write: dict[str, Callable[..., Path]]
) -> None:
    path = write["parquet"](rows, tmp_path)
    assert read_captions(SourceConfig(path=str(path))) == [Caption(row["id"], row["captions"][0]) for row in rows]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_first_caption_of_webdataset_samples(
    tmp_path: Path, rows: list[dict[str, Any]], write: dict[str, Callable[..., Path]]
) -> None:
    path = write["webdataset"](rows, tmp_path / "shards")
    assert read_captions(SourceConfig(path=str(path))) == [Caption(row["id"], row["captions"][0]) for row in rows]


def test_the_embedded_set_has_unique_ids() -> None:
    path = Path(__file__).parents[3] / "jobs" / "datasets" / "emoji64"
    read = read_captions(SourceConfig(path=str(path / "captions_test.json")))
    assert read == read_captions(SourceConfig(path=str(path / "test.parquet")))
    assert len(read) == 560


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.txt", "\n\n", "it holds no caption"),
        ("a.csv", "a,b\n1,2\n", "its header needs an id and a caption, and has a, b"),
        ("a.csv", "", "its header needs an id and a caption"),
        ("a.csv", "id,caption\n7,\n", "it holds no caption"),
        ("a.csv", "id,caption\n7,x\n7,y\n", "id 7 comes twice"),
        ("a.csv", "id,caption\n7,a red bird, flying\n", "row 1 has more fields than the header, so put captions"),
        ("a.csv", 'id,caption\n7,"a red bird\n8,two cats\n', "after row 0 it is no table"),
        ("a.json", '{"7": ', "it is not JSON"),
        ("a.json", "[" * 100_000, "it is not JSON"),
        ("a.json", '{"annotations": [{"caption": "a"}]}', "it is no COCO-captions JSON"),
        ("a.json", '{"7": null, "8": [7]}', "it holds no caption"),
    ],
    ids=[
        "blank",
        "other columns",
        "empty file",
        "empty caption",
        "repeated id",
        "a comma too many",
        "an open quotation mark",
        "cut JSON",
        "deep JSON",
        "no images",
        "no text",
    ],
)
def test_bad_lists_are_refused(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        captions(tmp_path, name, text)


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("h\u00e9".encode("latin-1"))
    with pytest.raises(DataError, match="it is not UTF-8 at byte 1, so convert it"):
        read_captions(SourceConfig(path=str(tmp_path / "a.txt")))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(DataError, match=r"^path is 'nowhere/list.txt': it cannot be used \("):
        read_captions(SourceConfig(path="nowhere/list.txt"))


def test_endless_captions_are_kept_for_the_tokenizer_to_cut(tmp_path: Path) -> None:
    assert captions(tmp_path, "a.txt", "x" * 5000) == [Caption("1", "x" * 5000)]


def test_what_is_dropped_is_counted_and_named(tmp_path: Path, data_warnings: list[str]) -> None:
    captions(tmp_path, "a.csv", "id,caption\n7,a red bird\n8,\n9,\n")
    captions(tmp_path, "a.json", '{"7": "a red bird", "8": null}')
    assert data_warnings == [
        "captions of 2 of 3 images dropped or mended, such as 8: a caption is blank.",
        "captions of 1 of 2 images dropped or mended, such as 8: there is no caption.",
    ]


def test_text_in_utf16_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("caf\u00e9\nau lait".encode("utf-16"))
    assert read_captions(SourceConfig(path=str(tmp_path / "a.txt"))) == [
        Caption("1", "caf\u00e9"),
        Caption("2", "au lait"),
    ]
