from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2i.data import Caption, SourceConfig, read_captioned_images, read_captions
from t2i.storage import DataError, filesystem_for, write_file


def only(image_id: str, text: str) -> Caption:
    """The only caption of an image, whose id it has."""
    return Caption(image_id, text, image_id)


EXPECTED = [only("7", "a red bird"), only("8", "two cats")]


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
        ("a.json", json.dumps([{"file_name": "7.jpg", "text": "a red bird"}, {"image_id": 8, "Prompt": "two cats"}])),
        ("a.json", json.dumps({"7": {"caption": "a red bird"}, "8": {"captions": [" ", "two cats"]}})),
        ("a.jsonl", '{"id": 7, "caption": "a red bird"}\n\n{"image": "8.png", "caption": ["two cats", "x"]}\n'),
        ("A.TSV", "Text\tImage_ID\na red bird\t7\ntwo cats\t8\n"),
        ("a.csv", "image_id\tcaption\n7\ta red bird\n8\ttwo cats\n"),
        ("a.csv", "image,caption\n7.jpg,a red bird\n7.jpg,another\nhttp://x/8.jpg?y=1,two cats\n"),
        ("a.csv", "id,caption,\n7,a red bird,\n8,two cats\n"),
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
        "objects",
        "id to object",
        "json lines",
        "capitals",
        "tabs in a csv",
        "a caption a row",
        "an empty column",
    ],
)
def test_lists_people_have(tmp_path: Path, name: str, text: str) -> None:
    assert captions(tmp_path, name, text) == EXPECTED


def test_the_limit_keeps_the_first(tmp_path: Path) -> None:
    assert captions(tmp_path, "a.txt", "one\ntwo\nthree", limit=2) == [only("1", "one"), only("2", "two")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.tsv",
            "Prompt\tCategory\tChallenge\tNote\na red bird\tAnimals\tBasic\t\ntwo, cats\tAnimals\tBasic\tDALL-E\n",
        ),
        ("a.tsv", "prompt\na red bird\ntwo, cats\n"),
        ("a.csv", 'prompts\na red bird\n"two, cats"\n'),
        ("a.json", '["a red bird", "two, cats"]'),
        ("a.json", '{"prompts": ["a red bird", "two, cats"]}'),
        ("a.json", '{"data": [{"prompt": "a red bird"}, {"prompt": "two, cats"}]}'),
        ("a.jsonl", '"a red bird"\n{"prompt": "two, cats"}'),
        ("a.txt", "a red bird\ntwo, cats"),
    ],
    ids=["PartiPrompts", "tsv of one column", "csv of one column", "json", "prompts", "data", "json lines", "text"],
)
def test_prompts_without_ids_are_numbered(tmp_path: Path, name: str, text: str) -> None:
    assert captions(tmp_path, name, text) == [only("1", "a red bird"), only("2", "two, cats")]


THREE = ["one", "two", "three"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "image_id,caption\n7,one\n8,other\n7,two\n7,three\n"),
        ("a.tsv", "filename\ttext\n7.jpg\tone\n8.jpg\tother\n7.jpg\ttwo\n7.jpg\tthree\n"),
        ("a.json", json.dumps({"7": THREE, "8": "other"})),
        ("a.json", json.dumps([{"image": "7.jpg", "caption": THREE}, {"image": "8.jpg", "caption": "other"}])),
        (
            "a.json",
            json.dumps(
                {
                    "images": [{"id": "x7", "file_name": "7.jpg"}, {"id": "x8", "file_name": "8.jpg"}] * 2,
                    "annotations": [{"image_id": "x8", "caption": "other"}]
                    + [{"image_id": "x7", "caption": text} for text in THREE],
                }
            ),
        ),
    ],
    ids=["csv", "tsv", "id to captions", "objects", "coco whose entries come twice"],
)
def test_all_captions_of_an_image_are_kept(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    images = {image.image_id: image for image in read_captioned_images(SourceConfig(str(tmp_path / name)))}
    assert images["7"].all() == [Caption(f"7/{k}", text, "7") for k, text in enumerate(THREE)]
    assert images["7"].one(1) == Caption("7", "two", "7")
    assert images["8"].all() == [Caption("8", "other", "8")]


def test_mlperfs_captions_keep_their_own_ids(tmp_path: Path) -> None:
    text = "id\timage_id\tcaption\tfile_name\n70\t227049\tA city.\tCOCO_val2014_000000227049.jpg\n71\t227049\tIt.\t\n"
    (tmp_path / "captions.tsv").write_text(text)
    (image,) = read_captioned_images(SourceConfig(str(tmp_path / "captions.tsv")))
    assert image.all() == [Caption("70", "A city.", "227049"), Caption("71", "It.", "227049")]
    assert image.one(1) == Caption("71", "It.", "227049")


@pytest.mark.parametrize(
    "columns", [{"image_id": [7, 7], "caption": ["one", "two"]}, {"ID": [7], "Prompt": [["one", "two"]]}]
)
def test_parquet_of_captions_alone(tmp_path: Path, columns: dict[str, list[Any]]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (image,) = read_captioned_images(SourceConfig(str(tmp_path / "a.parquet")))
    assert image.all() == [Caption("7/0", "one", "7"), Caption("7/1", "two", "7")]


def test_parquet_without_captions_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [7]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="it has no column captions, caption, text, prompt"):
        read_captions(SourceConfig(str(tmp_path / "a.parquet")))


def test_images_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "7.jpg").touch()
    with pytest.raises(DataError, match="format is 'images': it has images but no captions, so use text, table"):
        read_captions(SourceConfig(str(tmp_path)))


def test_lists_are_read_from_s3(bucket: str) -> None:
    write_file(*filesystem_for(f"{bucket}/ids.csv"), b"uid,caption\n7,a red bird\n8,two cats\n")
    assert read_captions(SourceConfig(f"{bucket}/ids.csv")) == EXPECTED


def test_the_first_caption_of_parquet_rows(
    tmp_path: Path, rows: list[dict[str, Any]], write: dict[str, Callable[..., Path]]
) -> None:
    path = write["parquet"](rows, tmp_path)
    assert read_captions(SourceConfig(path=str(path))) == [only(row["id"], row["captions"][0]) for row in rows]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_first_caption_of_webdataset_samples(
    tmp_path: Path, rows: list[dict[str, Any]], write: dict[str, Callable[..., Path]]
) -> None:
    path = write["webdataset"](rows, tmp_path / "shards")
    assert read_captions(SourceConfig(path=str(path))) == [only(row["id"], row["captions"][0]) for row in rows]


def test_the_embedded_set_has_unique_ids() -> None:
    path = Path(__file__).parents[3] / "jobs" / "datasets" / "emoji64"
    read = read_captions(SourceConfig(path=str(path / "captions_test.json")))
    assert read == read_captions(SourceConfig(path=str(path / "test.parquet")))
    assert len(read) == 560


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.txt", "\n\n", "it holds no caption"),
        ("a.csv", "a,b\n1,2\n", "its header needs one of captions, caption, text, prompt, prompts, raw, and has a, b"),
        ("a.csv", "", "it holds no caption"),
        ("a.csv", "id,caption\n7,\n", "it holds no caption"),
        ("a.csv", "id,image_id,caption\n7,1,x\n7,2,y\n", "id 7 comes twice, so make the ids of captions unique"),
        ("a.json", '{"7": ["x", "y"], "7/1": "z"}', "id 7/1 comes twice"),
        ("a.csv", "id,caption\n7,a red bird, flying\n", "row 1 has more fields than the header, so put captions"),
        ("a.csv", 'id,caption\n7,"a red bird\n8,two cats\n', "after row 0 it is no table"),
        ("a.json", '{"7": ', "it is not JSON"),
        ("a.json", "[" * 100_000, "it is not JSON"),
        ("a.json", '{"annotations": [{"caption": "a"}]}', "it is no COCO-captions JSON"),
        ("a.json", '{"7": null, "8": [7]}', "it holds no caption"),
        ("a.json", "[1, 2]", "it holds no caption"),
        ("a.jsonl", '"a"\n{"caption": \n', "line 2 is not JSON"),
    ],
    ids=[
        "blank",
        "other columns",
        "empty file",
        "empty caption",
        "repeated id",
        "an id like that of a second caption",
        "a comma too many",
        "an open quotation mark",
        "cut JSON",
        "deep JSON",
        "no images",
        "no text",
        "numbers",
        "a cut line",
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
    assert captions(tmp_path, "a.txt", "x" * 5000) == [only("1", "x" * 5000)]


def test_what_is_dropped_is_counted_and_named(tmp_path: Path, data_warnings: list[str]) -> None:
    captions(tmp_path, "a.csv", "id,caption\n7,a red bird\n8,\n9,\n")
    captions(tmp_path, "a.json", '{"7": "a red bird", "8": null}')
    captions(tmp_path, "a.jsonl", '{"id": 7, "caption": "a red bird"}\n{"id": 7}\n')
    assert data_warnings == [
        "captions of 2 of 3 images dropped or mended, such as 8: a caption is blank.",
        "captions of 1 of 2 images dropped or mended, such as 8: there is no caption.",
        "captions of 1 of 1 images dropped or mended, such as 7: there is no caption.",
    ]


def test_text_in_utf16_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("caf\u00e9\nau lait".encode("utf-16"))
    assert read_captions(SourceConfig(path=str(tmp_path / "a.txt"))) == [
        only("1", "caf\u00e9"),
        only("2", "au lait"),
    ]
