"""Windows of image tokens and of images, read beside training that has all of the cluster's CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from ray.data import Dataset
from torch import Tensor, nn

from models.tokenizer import CaptionTokenizer
from t2i.data import ImageShards, PairSources, SourceConfig, TokenShards, read_token_shards, write_token_shards
from t2i.evaluate.candidates import to_png
from t2i.train import TrainConfig, fit
from t2i.train.loader.ray_sources import WindowedSource
from t2i.train.noise import Noise
from t2i.train.tasks.base import Batch, Columns, Task
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig
from tests.t2i.train.tiny import tiny_dvae, tiny_prior

ROWS, PART = 40, 8


@pytest.fixture
def tokens(ray_cluster: None, tmp_path: Path) -> str:  # noqa: ARG001  a fixture cannot be marked to use another
    """40 images in five parts."""
    random = np.random.default_rng(0).integers(0, 16, (ROWS, 4), np.int32)
    rows = [{"id": f"{i:02}", "captions": [f"number {i}"], "image_tokens": row} for i, row in enumerate(random)]
    dataset = ray.data.from_items(rows, override_num_blocks=ROWS // PART)
    write_token_shards(dataset, str(tmp_path / "tokens"), metadata={}, rows_per_part=PART)
    return str(tmp_path / "tokens")


@pytest.mark.ray
def test_windows_hold_the_rows_of_their_parts_also_from_a_reader_that_was_lost(tokens: str) -> None:
    source = WindowedSource.of(TokenShards.of(tokens))
    assert source.parts == [PART] * 5
    first, second = (source.load(window) for window in ((3, 0), (4, 1, 2)))
    assert sorted([*first["id"], *second["id"]]) == [f"{i:02}" for i in range(ROWS)]
    expected = first["image_tokens"].copy()
    ray.kill(source.reader, no_restart=False)
    source.expect((3, 0))
    assert np.array_equal(source.load((3, 0))["image_tokens"], expected)


@pytest.fixture
def images(tmp_path: Path) -> PairSources:
    """40 images in five row groups, one of which cannot be decoded; four of them to validate on."""
    colours = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 8, 3), np.uint8)
    rows = [{"id": f"{i:02}", "captions": [f"number {i}"], "image": to_png(image)} for i, image in enumerate(colours)]
    pq.write_table(pa.Table.from_pylist(rows[:4]), tmp_path / "val.parquet")
    rows[7]["image"] = b"no image"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet", row_group_size=PART)
    return PairSources(*(SourceConfig(path=str(tmp_path / f"{name}.parquet")) for name in ("train", "val")))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_only_more_images_than_a_window_holds_are_read_in_windows(images: PairSources, tmp_path: Path) -> None:
    train, validation = images.decode(8, str(tmp_path), window_rows=ROWS - 1)
    assert isinstance(train, ImageShards)
    assert train.rows == [PART] * 5
    assert validation.count() == 4
    for window_rows in (ROWS, None):
        whole, _ = images.decode(8, str(tmp_path), window_rows=window_rows)
        assert isinstance(whole, Dataset)
        assert whole.count() == ROWS - 1


CONFIG = TrainConfig(steps=15, batch_size=8, workers=2, precision="fp32", window_rows=16, prefetch=1)


AnyTask = TypeVar("AnyTask", bound=Task)


def write_ids(task: AnyTask, seen: Path) -> AnyTask:
    """Have ``task`` write the ids of all rows it trains on into ``seen``, and draw no pictures."""

    def witnessed_batch(columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        if noise is not None:
            with seen.open("a") as file:
                file.writelines(f"{row_id}\n" for row_id in columns["id"][rows])
        return type(task).batch(task, columns, rows, noise)

    def no_pictures(model: nn.Module, columns: Columns) -> dict[str, Tensor]:  # noqa: ARG001  Task's
        return {}

    task.batch, task.pictures = witnessed_batch, no_pictures  # type: ignore[method-assign]
    return task


def assert_three_epochs(seen: Path) -> None:
    assert sorted(seen.read_text().split()) == sorted(f"{i:02}" for i in range(ROWS) for _ in range(3))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_dvae_trains_on_windows_and_takes_every_image_once_an_epoch(images: PairSources, tmp_path: Path) -> None:
    task = write_ids(DVAETask(DVAETaskConfig(model=tiny_dvae(), image_size=8)), tmp_path / "seen")
    fit(task, lambda: images.decode(8, str(tmp_path), window_rows=16), CONFIG, str(tmp_path / "run"))
    assert_three_epochs(tmp_path / "seen")


@pytest.mark.ray
@pytest.mark.soak
def test_training_on_windows_takes_every_image_once_an_epoch(tokens: str, tmp_path: Path) -> None:
    tokenizer = CaptionTokenizer.train(["number 0123456789"], 300).save(tmp_path / "tokenizer")
    config = PriorTaskConfig(model=tiny_prior(layers=1), bpe_dropout=0.0)
    task = write_ids(PriorTask(config, str(tokenizer), ""), tmp_path / "seen")
    fit(task, lambda: (TokenShards.of(tokens), read_token_shards(tokens)[0]), CONFIG, str(tmp_path / "run"))
    assert_three_epochs(tmp_path / "seen")
