"""Sets with too few usable images are refused before anything is drawn."""

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
from t2i.evaluate.config import MIN_IMAGES
from t2i.evaluate.usable_images import TooFewImagesError, decoded_images, require_images

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
IDS = [f"{number:03}" for number in range(MIN_IMAGES + 4)]


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
def test_images_are_counted_in_every_format(
    tiny_run: Path, tmp_path: Path, write: Callable[[dict[str, bytes], Path], Path]
) -> None:
    """Two images are missing and two are damaged; the last is left out the second time."""
    contents = [b"", b"", b"no image", b"no image", *map(png, range(MIN_IMAGES))]
    images = dict(zip(IDS, contents, strict=True))
    source = SourceConfig(str(write(images, tmp_path)))
    require_images("sets: x", source, IDS, str(tiny_run), "images=false")
    with pytest.raises(TooFewImagesError, match=r"^sets: x: .* has 19 usable images for 23 captions: .*images=false"):
        require_images("sets: x", source, IDS[:-1], str(tiny_run), "images=false")


def test_the_images_asked_for_have_the_size_that_the_run_draws(tiny_run: Path, tmp_path: Path) -> None:
    source = SourceConfig(str(write_parquet({name: png(0) for name in IDS}, tmp_path)))
    batch = decoded_images(source, [*IDS[2:5], "absent"], str(tiny_run)).take_batch()
    assert batch["id"].tolist() == IDS[2:5]
    assert np.asarray(batch["pixels"]).shape == (3, 32, 32, 3)
