"""The images that a set is compared with: from a folder of files, whichever captions were drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.data import SourceConfig
from t2i.data.transforms import CROPS
from t2i.evaluate.image_store import ImageStore, store_images
from tests.images import random_pixels

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def stored(folder: Path, out: Path, crop: str) -> ImageStore:
    return store_images(SourceConfig(str(folder)), ["a/7", "9", "a/8"], 16, str(out), crop)


@pytest.mark.parametrize("crop", [*CROPS])
def test_a_folder_without_captions_is_stored_in_either_shape(tmp_path: Path, crop: str) -> None:
    pixels = random_pixels(16, 40)
    (tmp_path / "set" / "a").mkdir(parents=True)
    for name in ("a/7", "a/8", "6"):
        Image.fromarray(pixels).save(tmp_path / "set" / f"{name}.png")
    store = stored(tmp_path / "set", tmp_path / "out", crop)
    assert store.ids == ["a/7", "a/8"]
    assert np.array_equal(store.pixels(["a/7"])["a/7"], CROPS[crop](pixels, 16))
