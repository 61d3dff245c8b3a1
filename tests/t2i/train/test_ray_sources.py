"""Windows of image tokens, read beside training that has all of the cluster's CPUs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import ray
import ray.data

from models.prior import PriorConfig
from models.tokenizer import CaptionTokenizer
from t2i.data import TokenParts, read_token_shards, write_token_shards
from t2i.train import TrainConfig, fit
from t2i.train.ray_sources import Windowed
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig

ROWS, PART = 40, 8
SIZES = PriorConfig(1, 2, 8, text_length=6, text_vocabulary=300, grid_height=2, grid_width=2, codebook_size=16)


@pytest.fixture
def tokens(ray_cluster: None, tmp_path: Path) -> str:
    """40 images in five parts."""
    random = np.random.default_rng(0).integers(0, 16, (ROWS, 4), np.int32)
    rows = [{"id": f"{i:02}", "captions": [f"number {i}"], "image_tokens": row} for i, row in enumerate(random)]
    dataset = ray.data.from_items(rows, override_num_blocks=ROWS // PART)
    write_token_shards(dataset, str(tmp_path / "tokens"), metadata={}, rows_per_part=PART)
    return str(tmp_path / "tokens")


@pytest.mark.ray
def test_windows_hold_the_rows_of_their_parts_also_from_a_reader_that_was_lost(tokens):
    source = Windowed.of(TokenParts.of(tokens))
    assert source.parts == [PART] * 5
    first, second = (source.load(window) for window in ((3, 0), (4, 1, 2)))
    assert sorted([*first["id"], *second["id"]]) == [f"{i:02}" for i in range(ROWS)]
    expected = first["image_tokens"].copy()
    ray.kill(source.reader, no_restart=False)
    source.expect((3, 0))
    assert np.array_equal(source.load((3, 0))["image_tokens"], expected)


@pytest.mark.ray
@pytest.mark.slow
def test_training_on_windows_takes_every_image_once_an_epoch(tokens, tmp_path):
    CaptionTokenizer.train(["number 0123456789"], 300).save(tmp_path / "tokenizer")
    seen = tmp_path / "seen"

    class Witness(PriorTask):
        def batch(self, columns, rows, noise=None):
            if noise is not None:
                with seen.open("a") as file:
                    file.writelines(f"{id}\n" for id in columns["id"][rows])
            return super().batch(columns, rows, noise)

        def pictures(self, model, columns):
            return {}

    task = Witness(PriorTaskConfig(model=SIZES, bpe_dropout=0.0), str(tmp_path / "tokenizer"), "")
    config = TrainConfig(steps=15, batch_size=8, workers=2, precision="fp32", window_rows=16, prefetch=1)
    fit(task, lambda: (TokenParts.of(tokens), read_token_shards(tokens)[0]), config, str(tmp_path / "run"))
    taken = sorted(seen.read_text().split())
    assert taken == sorted(f"{i:02}" for i in range(ROWS) for _ in range(3))
