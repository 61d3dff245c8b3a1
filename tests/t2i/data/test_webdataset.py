"""WebDataset shards as people have them, without Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from t2i.data import SourceConfig
from t2i.data.webdataset import open_webdataset
from t2i.storage import DataError
from tests.t2i.data.tars import picture, tar, write_shards


def read(folder: str) -> list[tuple[str, bytes | None, list[str]]]:
    """The id, the image and the captions of every sample, in order."""
    pieces = open_webdataset(SourceConfig(path=folder))
    batches = [batch for piece in pieces for batch in piece.read()]
    assert sum(piece.rows for piece in pieces) == sum(len(batch.ids) for batch in batches)
    return [
        (row_id, image, captions.texts)
        for batch in batches
        for row_id, image, captions in zip(batch.ids, batch.images, batch.captions, strict=True)
    ]


def named(*names: str) -> list[tuple[str, bytes]]:
    """Files by their names: pictures, texts that hold their name's beginning, and empty JSON objects."""
    kinds = {"txt": lambda name: name[:6].encode(), "json": lambda _: b"{}"}
    return [(name, kinds.get(name.rpartition(".")[2].lower(), lambda _: picture())(name)) for name in names]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a.jpg", "a.txt", "b.jpg", "b.txt"], ["a", "b"]),
        (["img.0001.jpg", "img.0001.txt", "img.0002.jpg", "img.0002.txt"], ["img.0001", "img.0002"]),
        (["s1.input.jpg", "s1.output.txt", "s2.input.jpg", "s2.output.txt"], ["s1", "s2"]),
        (["s1.jpg", "s1.seg.png", "s1.txt", "s2.seg.png", "s2.jpg", "s2.txt"], ["s1", "s2"]),
        (["a.JPG", "a.TXT", "b.Jpeg", "b.txt"], ["a", "b"]),
        (["./x/a.jpg", "./x/a.txt", "y/a.webp", "y/a.txt"], ["x/a", "y/a"]),
        (["v1.2/a.jpg", "v1.2/a.txt", "v1.2/b.jpg", "v1.2/b.txt"], ["v1.2/a", "v1.2/b"]),
        (["a.jpg", "._a.jpg", "a.txt", ".DS_Store", "a.cls", "jpg", "b.avif", "b.txt"], ["a", "b"]),
        (["k" * 150 + ".jpg", "k" * 150 + ".txt", "café.jpg", "café.txt"], ["k" * 150, "café"]),
    ],
    ids=["plain", "dots", "two parts", "a mask", "upper case", "folders", "dots in folders", "others", "long names"],
)
def test_keys_are_cut_where_samples_are_whole(tmp_path: Path, names: list[str], ids: list[str]) -> None:
    rows = read(write_shards(tmp_path, named(*names)))
    assert [row_id for row_id, _, _ in rows] == ids
    assert all(image == picture() for _, image, _ in rows)
    assert all(len(captions) == 1 for _, _, captions in rows)


def test_a_mask_is_not_taken_for_the_image(tmp_path: Path) -> None:
    files = [("a.seg.png", picture(9)), ("a.png", picture(1)), ("a.txt", b"one")]
    assert read(write_shards(tmp_path, files)) == [("a", picture(1), ["one"])]


def test_keys_that_begin_again_get_the_name_of_their_shard(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, named("a.jpg", "b.jpg"), named("a.jpg", "c.jpg"))
    assert [row[0] for row in read(folder)] == ["00000/a", "00000/b", "00001/a", "00001/c"]


def test_empty_shards_hold_nothing(tmp_path: Path) -> None:
    assert len(read(write_shards(tmp_path, named("a.jpg", "a.txt"), [], named("b.jpg")))) == 2


def test_links_lead_to_their_files_and_folders_count_for_nothing(tmp_path: Path) -> None:
    links = {"x/b.png": "../a.png", "x/c.png": "/etc/passwd", "x/d.png": "d.png"}
    (tmp_path / "0.tar").write_bytes(tar({"a.png": picture(5)}, links))
    assert [(row_id, image) for row_id, image, _ in read(str(tmp_path))] == [("a", picture(5)), ("x/b", picture(5))]


@pytest.mark.parametrize(
    ("files", "captions"),
    [
        ({"a.txt": b"", "a.json": b'{"caption": "good"}'}, ["good"]),
        ({"a.txt": b"text", "a.json": b'{"caption": "other"}'}, ["text"]),
        ({"a.txt": b"One\nlist", "a.json": b'{"captions": ["One", "list"]}'}, ["One", "list"]),
        ({"a.json": b'{"captions": null, "caption": "good"}'}, ["good"]),
        ({"a.json": b'{"caption": "half \\ud83d"}'}, ["half"]),
        ({"a.json": b"[1, 2", "a.txt": b"good"}, ["good"]),
        ({"a.json": b"[" * 100_000}, []),
        ({"a.json": b'"just text"'}, ["just text"]),
        ({"a.json": b"7"}, []),
        ({"a.json": "\ufeff{}".encode()}, []),
        ({"a.json": b'{"caption": "caf\xe9"}', "a.txt": b"caf\xe9"}, []),
        ({"a.txt": "\ufeffcafé\u2028au lait".encode()}, ["café au lait"]),
        ({"a.txt": "deux cafés".encode("utf-16")}, ["deux cafés"]),
        ({"a.txt": b"A caption that\nwas wrapped"}, ["A caption that was wrapped"]),
        ({"a.txt": b"a red circle\na circle"}, ["a red circle", "a circle"]),
        ({"a.other.txt": b"second", "a.txt": b"first"}, ["first"]),
        ({}, []),
    ],
)
def test_the_first_good_caption_wins(tmp_path: Path, files: dict[str, bytes], captions: list[str]) -> None:
    assert read(write_shards(tmp_path, {"a.png": picture(), **files})) == [("a", picture(), captions)]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a.jpg", "b.jpg", "a.txt", "b.txt"], r"00000\.tar': the members of sample a are not neighbours, so sort"),
        (["i.1.jpg", "i.2.jpg", "i.1.txt", "i.2.txt"], r"the members of sample i\.1 are not neighbours, so sort them"),
        (
            ["a.jpg", "a.jpg"],
            r"sample a has the images a\.jpg and a\.jpg, so keep one \(a key ends at the first",
        ),
        (["a.in.jpg", "a.seg.png", "a.txt"], r"sample a has the images a\.in\.jpg and a\.seg\.png, so keep one"),
        (["readme.md", "a.cls"], r"its tars hold no image, \.txt or \.json\.$"),
    ],
    ids=["out of order", "dots out of order", "twice", "two images", "no sample"],
)
def test_what_has_no_clear_samples_is_refused(tmp_path: Path, names: list[str], sentence: str) -> None:
    with pytest.raises(DataError, match=f"^path is .*{sentence}"):
        open_webdataset(SourceConfig(path=write_shards(tmp_path, named(*names))))


def damage(whole: bytes, kind: str) -> bytes:
    return {
        "empty": b"",
        "cut": whole[:2000],
        "without end": whole.rstrip(b"\0"),
        "a broken header": whole[:1024] + b"\xff" * 512 + whole[1536:],
        "two in one": whole + tar(named("z.jpg", "z.txt")),
        "gzip": b"\x1f\x8b" + whole[2:],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "cut", "without end", "a broken header", "two in one", "gzip"])
def test_damaged_tars_are_refused(tmp_path: Path, kind: str) -> None:
    whole = tar(named("a.jpg", "a.txt", "b.jpg", "b.txt"))
    (tmp_path / "0.tar").write_bytes(damage(whole, kind))
    with pytest.raises(DataError, match=r"0\.tar': it is truncated or not a tar, .*, so copy it again\.$"):
        open_webdataset(SourceConfig(path=str(tmp_path)))


def test_a_changed_tar_is_read_anew(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, named("a.jpg"))
    assert len(read(folder)) == 1
    assert len(read(write_shards(tmp_path, named("a.jpg", "b.jpg")))) == 2


def test_problems_of_captions_are_named(tmp_path: Path) -> None:
    objects: dict[str, Any] = {"caption": [" ", "good"]}
    folder = write_shards(tmp_path, {"a.png": picture(), "a.json": json.dumps(objects).encode()})
    (piece,) = open_webdataset(SourceConfig(path=folder))
    (batch,) = piece.read()
    assert batch.captions[0].problems == ["a caption is blank"]
