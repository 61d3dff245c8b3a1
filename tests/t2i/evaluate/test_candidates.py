from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from t2i.evaluate.candidates import (
    CaptionCandidates,
    encode_shard,
    from_png,
    read_caption,
    read_images,
    shard_record,
    to_png,
)
from t2i.evaluate.work_list import WorkItem

SCORES = np.array([0.1, 0.4, 0.4, 0.3], np.float32)
IMAGES = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)


def candidates(name: str, *, truncated: bool = False) -> CaptionCandidates:
    item = WorkItem(name, f"caption of {name}", f"image of {name}", 7)
    return CaptionCandidates(item, truncated, np.array([0, 2, 3, 5]), np.arange(8).reshape(4, 2), SCORES)


def shard(keep: str) -> pq.ParquetFile:
    tables = [candidates("a").table(IMAGES, keep), candidates("b", truncated=True).table(IMAGES, keep)]
    return pq.ParquetFile(io.BytesIO(encode_shard(tables)))


def test_the_best_comes_first_and_ties_keep_their_order() -> None:
    assert candidates("a").order.tolist() == [1, 2, 3, 0]
    assert [candidates("a").best_of(count) for count in (1, 2, 4)] == [0, 1, 1]


def test_a_caption_is_a_row_group_and_comes_back_as_it_was() -> None:
    stored = shard("best")
    assert stored.num_row_groups == 2
    for index, expected in enumerate([candidates("a"), candidates("b", truncated=True)]):
        found = read_caption(stored, index)
        assert (found.item, found.truncated) == (expected.item, expected.truncated)
        for name in ("numbers", "image_tokens", "scores"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(("keep", "kept"), [("all", {0: 0, 2: 1, 3: 2, 5: 3}), ("best", {2: 1}), ("none", {})])
def test_only_the_kept_images_are_stored(keep: str, kept: dict[int, int]) -> None:
    images = read_images(shard(keep), 1)
    assert {number: int(image[0, 0, 0]) for number, image in images.items()} == kept


def test_the_record_adds_scores_up_by_rank() -> None:
    tables = [candidates("a").table(IMAGES, "none"), candidates("b", truncated=True).table(IMAGES, "none")]
    record = shard_record(tables)
    assert (record["ids"], record["truncated"]) == (["a", "b"], 1)
    np.testing.assert_allclose(record["best"], [0.4, 0.4], rtol=1e-6)
    np.testing.assert_allclose(record["score_sums"], [0.8, 0.8, 0.6, 0.2], rtol=1e-6)


def test_the_same_candidates_are_the_same_bytes() -> None:
    tables = [candidates("a").table(IMAGES, "all")]
    assert encode_shard(tables) == encode_shard(tables)


def test_png_keeps_every_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(from_png(to_png(image)), image)
