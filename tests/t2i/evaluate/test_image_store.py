"""Images to compare with are stored once, in the order in which they are asked for."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from t2i.data import SourceConfig
from t2i.evaluate.image_store import IMAGES_PER_SHARD, load_images, open_images, store_images, was_jpeg
from t2i.storage import DataError
from tests.images import encode

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
IDS = [f"{number:03}" for number in range(24)]


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 48), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_parquet(images: dict[str, bytes], folder: Path) -> Path:
    rows = [{"id": name, "image": data, "captions": ["a circle"]} for name, data in images.items()]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    return folder / "pairs.parquet"


def write_coco(images: dict[str, bytes], folder: Path) -> Path:
    """Images without bytes are missing."""
    for name, data in images.items():
        if data:
            (folder / f"{name}.png").write_bytes(data)
    listed = [{"id": name, "file_name": f"{name}.png"} for name in images]
    captions = [{"image_id": name, "caption": "a circle"} for name in images]
    (folder / "captions.json").write_text(json.dumps({"images": listed, "annotations": captions}))
    return folder / "captions.json"


def write_webdataset(images: dict[str, bytes], folder: Path) -> Path:
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name, data in images.items():
            for file, content in ((f"{name}.png", data), (f"{name}.txt", b"a circle")):
                member = tarfile.TarInfo(file)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


@pytest.mark.parametrize("write", [write_parquet, write_coco, write_webdataset])
def test_usable_images_are_stored_in_the_order_asked_for(
    tmp_path: Path, write: Callable[[dict[str, bytes], Path], Path]
) -> None:
    """Two images are missing and two are damaged."""
    contents = [b"", b"", b"no image", b"no image", *map(png, range(20))]
    source = SourceConfig(str(write(dict(zip(IDS, contents, strict=True)), tmp_path)))
    wanted = [*reversed(IDS), "absent"]
    store = store_images(source, wanted, 32, f"{tmp_path}/images")
    assert store.ids == list(reversed(IDS[4:]))
    assert [path.name for path in (tmp_path / "images" / "unreadable").iterdir()]
    images = store.pixels(["005", "023", "000"])
    assert {name: image[0, 0].tolist() for name, image in images.items()} == {"005": [1, 0, 0], "023": [19, 0, 0]}
    assert images["005"].shape == (32, 32, 3)
    assert not was_jpeg(f"{tmp_path}/images")


def test_a_source_of_jpeg_files_is_told(tmp_path: Path) -> None:
    with_jpeg = {name: encode(Image.new("RGB", (40, 48)), "JPEG") for name in IDS}
    store_images(SourceConfig(str(write_parquet(with_jpeg, tmp_path))), IDS, 32, f"{tmp_path}/images")
    assert was_jpeg(f"{tmp_path}/images")


def test_shards_hold_the_same_images_however_they_were_stored(tmp_path: Path) -> None:
    names = [f"{number:03}" for number in range(IMAGES_PER_SHARD + 6)]
    source = SourceConfig(str(write_parquet({name: png(int(name)) for name in names}, tmp_path)))
    first = store_images(source, names, 16, f"{tmp_path}/a")
    store_images(source, names[:10], 16, f"{tmp_path}/b")  # as if killed, with fewer images in its files
    second = store_images(source, names, 16, f"{tmp_path}/b")
    for ours, theirs in zip(first.shards, second.shards, strict=True):
        assert ours["ids"] == theirs["ids"]
        assert np.array_equal(load_images(ours)["pixels"], load_images(theirs)["pixels"])
    assert [len(shard["ids"]) for shard in first.shards] == [IMAGES_PER_SHARD, 6]


def test_stored_images_are_not_decoded_again(tmp_path: Path) -> None:
    file = write_parquet({name: png(0) for name in IDS}, tmp_path)
    store_images(SourceConfig(str(file)), IDS, 16, f"{tmp_path}/images")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.parquet")}
    assert store_images(SourceConfig(str(file)), IDS, 16, f"{tmp_path}/images").ids == IDS
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.parquet")} == before


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    file = write_parquet({name: png(0) for name in IDS}, tmp_path)
    store_images(SourceConfig(str(file)), IDS, 16, f"{tmp_path}/images")
    next((tmp_path / "images").rglob("part-*.parquet")).write_bytes(b"x")
    with pytest.raises(DataError, match="missing or damaged"):
        open_images(f"{tmp_path}/images", IDS)
