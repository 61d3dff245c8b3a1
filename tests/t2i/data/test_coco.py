from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from t2i.data import SourceConfig
from t2i.data.coco import find_images, parse_coco
from t2i.storage import DataError


def source(folder: Path, document: Any, **settings: Any) -> SourceConfig:
    path = folder / "captions_val2014.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return SourceConfig(path=str(path), **settings)


def karpathy(**splits: int) -> dict[str, Any]:
    images = [
        {"filepath": "val2014", "filename": f"{split}_{i}.jpg", "split": split, "sentences": [{"raw": "a cat"}]}
        for split, count in splits.items()
        for i in range(count)
    ]
    return {"images": images}


def test_captions_join_their_image_in_order(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "COCO_val2014_7.jpg"}, {"id": 3, "file_name": "COCO_val2014_3.jpg"}]
    annotations = [{"image_id": i, "caption": text} for i, text in ((3, "a "), (7, "b\n"), (3, "c"))]
    parsed = parse_coco(source(tmp_path, {"images": images, "annotations": annotations}))
    assert [(image.id, image.captions) for image in parsed] == [
        ("COCO_val2014_7", ["b"]),
        ("COCO_val2014_3", ["a", "c"]),
    ]


def test_karpathys_train_includes_restval(tmp_path: Path) -> None:
    parsed = parse_coco(source(tmp_path, karpathy(train=2, restval=1, val=4), split="train"))
    assert [image.file for image in parsed] == [f"val2014/{x}.jpg" for x in ("train_0", "train_1", "restval_0")]


@pytest.mark.parametrize("split", [None, "dev"])
def test_karpathys_split_must_be_named(tmp_path: Path, split: str | None) -> None:
    with pytest.raises(
        DataError, match=r"^split is .*captions_val2014.json has test, val, so set it to one of them\.$"
    ):
        parse_coco(source(tmp_path, karpathy(val=1, test=1), split=split))


def test_an_official_json_has_no_split(tmp_path: Path) -> None:
    document = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "a"}]}
    with pytest.raises(DataError, match="split is 'val': only a Karpathy JSON has splits"):
        parse_coco(source(tmp_path, document, split="val"))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{", "it is not JSON"),
        ({"images": []}, "it is no COCO-captions JSON"),
        ([1, 2], "it is no COCO-captions JSON"),
        ({"images": [{"id": 1, "file_name": "1.jpg"}]}, "it is no COCO-captions JSON"),
        (
            {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "bbox": []}]},
            "it has images but no captions, so name the captions_",
        ),
    ],
    ids=["broken", "no images", "a list", "no annotations", "instances, not captions"],
)
def test_other_json_is_refused(tmp_path: Path, document: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        parse_coco(source(tmp_path, document))


@pytest.mark.parametrize("place", ["../val2014", "val2014", "images", "."])
def test_images_are_found_in_the_usual_places(tmp_path: Path, place: str) -> None:
    (tmp_path / "annotations").mkdir()
    asked = source(tmp_path / "annotations", karpathy(val=2), split="val")
    file = tmp_path / "annotations" / place / "val2014" / "val_1.jpg"
    file.parent.mkdir(parents=True)
    file.touch()
    _, folder = find_images(asked, parse_coco(asked))
    assert Path(folder, "val2014", "val_1.jpg").is_file()


def test_a_folder_without_the_images_is_refused(tmp_path: Path) -> None:
    asked = source(tmp_path, karpathy(val=2), split="val", images=str(tmp_path))
    with pytest.raises(
        DataError, match=r"^images is .*: the files that .* names are not in .*, so set it to their folder"
    ):
        find_images(asked, parse_coco(asked))


def official(*images: Any, captions: Any = None) -> dict[str, Any]:
    annotations = [{"image_id": i, "caption": text} for i, text in captions or [(1, "one"), (2, "two")]]
    return {"images": list(images), "annotations": annotations}


ONE, TWO = {"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (official(ONE, TWO, None), [("1.jpg", ["one"]), ("2.jpg", ["two"])]),
        (official(ONE, {"id": 2}, {"id": 3, "file_name": None}), [("1.jpg", ["one"])]),
        (official({"id": "1", "file_name": "1.jpg"}), [("1.jpg", ["one"])]),
        (official({"id": 1.0, "file_name": "1.jpg"}), [("1.jpg", ["one"])]),
        (official(ONE, captions=[("1", "one"), (None, "none"), (1, "uno")]), [("1.jpg", ["one", "uno"])]),
        (official(ONE, captions=[(1, None), (1, "  "), (1, 7), (1, "one")]), [("1.jpg", ["one"])]),
        (official(ONE, captions=[(1, "half \ud83d")]), [("1.jpg", ["half"])]),
        (official({"id": 1, "file_name": "a\\b/1.jpg"}), [("a/b/1.jpg", ["one"])]),
        (official({"id": 1, "file_name": "/mnt/coco/1.jpg"}), [("1.jpg", ["one"])]),
        (official({"id": 1, "coco_url": "http://images.cocodataset.org/val2017/1.jpg"}), [("1.jpg", ["one"])]),
        (official({"id": 1, "file_name": "http://host/x/1.jpg?size=2"}), [("1.jpg", ["one"])]),
        (official(ONE, TWO | {"file_name": "1.jpg"}), [("1.jpg", ["one", "two"])]),
        (
            {"images": [{"filename": "1.jpg", "split": "val", "sentences": [{"raw": None}, {"raw": "one"}]}, None]},
            [("1.jpg", ["one"])],
        ),
        (
            {"images": [{"filename": "1.jpg", "split": "val", "sentences": [{"raw": "one"}, {"raw": "uno"}]}] * 2},
            [("1.jpg", ["one", "uno"])],
        ),
        (official(ONE, ONE, captions=[(1, "one"), (1, "uno")]), [("1.jpg", ["one", "uno"])]),
        (official(ONE | {"id": "a"}, captions=[("a", "one")]), [("1.jpg", ["one"])]),
        (official(ONE, captions=[("000000000001", "one")]), [("1.jpg", ["one"])]),
        (
            {"images": [{"filename": "1.jpg", "split": "val", "sentences": [{"raw": "one"}]}, {"filename": "2.jpg"}]},
            [("1.jpg", ["one"])],
        ),
    ],
    ids=[
        "a null image",
        "no file names",
        "ids of text",
        "ids of floats",
        "unknown images",
        "no captions",
        "half a pair",
        "folders",
        "an absolute path",
        "a URL alone",
        "a URL as name",
        "listed twice",
        "Karpathy's nulls",
        "Karpathy's entry twice",
        "an entry twice",
        "ids that are words",
        "ids with zeros",
        "Karpathy without a split",
    ],
)
def test_odd_entries_cost_only_themselves(tmp_path: Path, document: Any, expected: list[tuple[str, list[str]]]) -> None:
    split = "val" if "annotations" not in document else None
    parsed = parse_coco(source(tmp_path, document, split=split))
    assert [(image.file, image.captions) for image in parsed] == expected


@pytest.mark.parametrize("document", [{"images": None, "annotations": []}, {"images": [ONE], "annotations": None}])
def test_null_lists_are_refused(tmp_path: Path, document: Any) -> None:
    with pytest.raises(DataError, match="it is no COCO-captions JSON"):
        parse_coco(source(tmp_path, document))


def test_files_that_differ_in_the_suffix_alone_are_refused(tmp_path: Path) -> None:
    document = official(ONE, TWO | {"file_name": "1.png"})
    with pytest.raises(DataError, match=r"2 of its files have the id 1, so give them other names\.$"):
        parse_coco(source(tmp_path, document))


def test_missing_images_are_counted_and_named(tmp_path: Path, data_warnings: list[str]) -> None:
    images = [{"id": i, "file_name": f"x/{i}.jpg"} for i in range(20)]
    asked = source(tmp_path, official(*images))
    (tmp_path / "images" / "x").mkdir(parents=True)
    for i in range(15, 20):
        (tmp_path / "images" / "x" / f"{i}.jpg").touch()
    _, folder = find_images(asked, parse_coco(asked))
    assert folder.endswith("/images")
    find_images(asked, parse_coco(asked))
    (warning,) = data_warnings
    assert "/images: 15 of 20 images are missing and skipped, such as x/0.jpg, x/1.jpg, x/2.jpg." in warning


def test_what_is_left_out_is_counted(tmp_path: Path, data_warnings: list[str]) -> None:
    parse_coco(source(tmp_path, official(ONE, {"id": 2}, captions=[(1, "one"), (7, "a"), (7, "b")])))
    assert data_warnings[0].endswith("captions of images that it does not list are left out: 2, such as of 7.")
    assert data_warnings[1].endswith("1 of 2 images left out, as they have no file_name.")
