"""Encoded images in one buffer, some of which cannot be decoded."""

from __future__ import annotations

import numpy as np
import pytest

from t2i.data.columns import caption_array
from t2i.data.packed_images import decode_rows, pack_images
from t2i.evaluate.candidates import to_png
from t2i.storage import DataError


def image(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


def columns(images: list[bytes], captions: list[list[str]]) -> dict[str, np.ndarray]:
    ids = np.array([f"i{n}" for n in range(len(images))])
    return {"id": ids, "captions": caption_array(captions), **pack_images(images)}


def test_images_come_out_as_they_were_packed() -> None:
    packed = columns([to_png(image(value)) for value in (10, 20, 30)], [["a"]] * 3)
    rows, images = decode_rows(packed, np.array([2, 0, 2, 1]))
    assert rows.tolist() == [2, 0, 2, 1]
    assert [int(each[0, 0, 0]) for each in images] == [30, 10, 30, 20]
    assert all(each.shape == (4, 6, 3) for each in images)


def test_the_next_row_that_can_be_used_comes_for_one_that_cannot() -> None:
    files = [to_png(image(10)), b"", to_png(image(30)), b"no image", to_png(image(50))]
    some = columns(files, [["a"], ["b"], [], ["d"], []])
    rows, images = decode_rows(some, np.arange(5))
    assert rows.tolist() == [0, 0, 0, 0, 0]
    some["captions"][2] = ["c"]
    rows, images = decode_rows(some, np.arange(5))
    assert rows.tolist() == [0, 2, 2, 0, 0]
    assert [int(each[0, 0, 0]) for each in images] == [10, 30, 30, 10, 10]


def test_nothing_that_can_be_used_is_said() -> None:
    with pytest.raises(DataError, match="none of the images"):
        decode_rows(columns([b"", b"x"], [["a"], ["b"]]), np.array([1]))
