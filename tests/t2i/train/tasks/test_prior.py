from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.checkpoint import load_model, save_model
from models.dvae import DVAE, DVAEConfig
from models.images import to_uint8
from models.prior import Prior, prior_loss
from models.tokenizer import CaptionTokenizer
from t2i.contact_sheet import SheetRow
from t2i.data.columns import caption_array
from t2i.train.noise import Noise
from t2i.train.tasks.base import Columns
from t2i.train.tasks.caption_choice import choose_captions
from t2i.train.tasks.pictures import captioned_sheet
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig, sample_tokens, unigram_entropy
from tests.t2i.train.tiny import tiny_dvae, tiny_prior

CAPTIONS = [["red cat", "a cat"], ["blue dog"], ["green bird", "bird", "a flying bird"]]


@pytest.fixture
def task(tmp_path: Path) -> PriorTask:
    tokenizer = CaptionTokenizer.train([c for row in CAPTIONS for c in row], 300).save(tmp_path / "tokenizer")
    dvae = save_model(tmp_path / "dvae", DVAE(tiny_dvae()))
    return PriorTask(PriorTaskConfig(model=tiny_prior(), bpe_dropout=0.0), str(tokenizer), str(dvae))


@pytest.fixture
def columns() -> Columns:
    tokens = np.random.default_rng(0).integers(0, 16, (3, 4), dtype=np.int32)
    return {"id": np.arange(3).astype(str), "captions": caption_array(CAPTIONS), "image_tokens": tokens}


def built(task: PriorTask) -> Prior:
    model = task.build().eval()
    assert isinstance(model, Prior)
    return model


def words(text: torch.Tensor) -> list[list[int]]:
    return [[token for token in row if token < tiny_prior().text_vocabulary] for row in text.tolist()]


def test_validation_reads_each_images_first_caption(task: PriorTask, columns: Columns, tmp_path: Path) -> None:
    prepared = task.prepare(columns, task.build())
    text = task.batch(prepared, np.array([2, 0]))["text"]
    tokenizer = CaptionTokenizer.load(tmp_path / "tokenizer")
    assert words(text) == [tokenizer.encode(caption, 6).ids for caption in ("green bird", "red cat")]


def test_training_draws_an_images_own_captions_alike(task: PriorTask, columns: Columns, tmp_path: Path) -> None:
    prepared = task.prepare(columns, task.build())
    rows = np.full(600, 2)
    text = task.batch(prepared, rows, Noise.of_step(0, 0, len(rows)))["text"]
    tokenizer = CaptionTokenizer.load(tmp_path / "tokenizer")
    drawn = [words(text).count(tokenizer.encode(caption, 6).ids) for caption in CAPTIONS[2]]
    assert sum(drawn) == 600
    assert min(drawn) > 150


def test_weights_choose_among_captions() -> None:
    count = np.full(1000, 3)
    chosen = choose_captions(count, [6.0, 1.0], np.random.default_rng(0).random(1000))
    assert np.bincount(chosen) / 1000 == pytest.approx([6 / 8, 1 / 8, 1 / 8], abs=0.05)
    single = choose_captions(np.ones(5, int), [1.0, 9.0], np.random.default_rng(0).random(5))
    assert single.tolist() == [0] * 5


def test_metrics_are_means_over_tokens_whatever_the_batch_size(task: PriorTask, columns: Columns) -> None:
    model = built(task)
    prepared = task.prepare(columns, model)
    at_once, in_batches = task.validate(model, prepared, 3), task.validate(model, prepared, 2)
    assert {task.headline.metric, task.overfitting_metric.metric, *task.validation_metrics} <= set(at_once)
    batch = task.batch(prepared, np.arange(3))
    expected = prior_loss(model, batch["text"], batch["image_tokens"])
    assert at_once["nats_per_image_token"] == pytest.approx(expected.image.item(), rel=1e-5)
    assert at_once["nats_per_text_token"] == pytest.approx(expected.text.item(), rel=1e-5)
    assert in_batches == pytest.approx(at_once, rel=1e-5)


def test_unigram_entropy() -> None:
    assert unigram_entropy(np.array([[0, 0], [3, 3]])) == pytest.approx(math.log(2))


def test_samples_are_those_of_the_engine_for_each_caption_alone(task: PriorTask, columns: Columns) -> None:
    model = built(task)
    text = task.prepare(columns, model)["text"][:3]
    tokens = sample_tokens(model, text, candidates=2)
    assert tokens.shape == (3, 2, 4)
    assert np.array_equal(sample_tokens(model, text[::-1].copy(), candidates=2), tokens[::-1])


def test_pictures_show_each_caption_with_its_image_and_samples(
    task: PriorTask, columns: Columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[SheetRow] = []

    def keep_rows(rows: Sequence[SheetRow]) -> Tensor:
        shown.extend(rows)
        return captioned_sheet(rows)

    monkeypatch.setattr("t2i.train.tasks.prior.captioned_sheet", keep_rows)
    model = built(task)
    prepared = task.prepare(columns, model)
    assert task.pictures(model, prepared)["samples"].shape[0] == 3
    assert [row.caption for row in shown] == [captions[0] for captions in columns["captions"]]
    dvae = load_model(DVAE, DVAEConfig, task._dvae_dir)
    drawn = sample_tokens(model, prepared["text"][prepared["first"]], candidates=4)
    for row, own, samples in zip(shown, columns["image_tokens"], drawn, strict=True):
        tokens = torch.from_numpy(np.array([own, *samples]))
        assert np.array_equal(row.images, to_uint8(dvae.decode(tokens, model.layout.grid)))
        assert list(row.labels) == ["its own", "sample 1", "sample 2", "sample 3", "sample 4"]


def test_caption_weights_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.caption_weights begins with 0"):
        PriorTaskConfig(caption_weights=[0.0, 1.0])


def test_training_leaves_merges_out_by_the_noise(task: PriorTask, columns: Columns) -> None:
    task.config.bpe_dropout = 0.5
    prepared = task.prepare(columns, task.build())
    rows = np.full(50, 1)
    drawn = [task.batch(prepared, rows, Noise.of_step(seed, 0, len(rows)))["text"] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert len({tuple(row) for row in words(drawn[0])}) > 1


def test_training_leaves_whole_captions_out_for_guidance(task: PriorTask, columns: Columns) -> None:
    task.config.caption_dropout = 0.3
    prepared = task.prepare(columns, task.build())
    rows = np.full(1000, 1)
    text = task.batch(prepared, rows, Noise.of_step(0, 0, len(rows)))["text"]
    assert 250 < sum(not row for row in words(text)) < 350
    assert all(words(task.batch(prepared, rows)["text"]))


def test_the_mean_loss_of_microbatches_is_the_loss_of_the_batch(task: PriorTask, columns: Columns) -> None:
    """Captions have different numbers of tokens, so their own means would not do."""
    model = task.build()
    prepared = task.prepare(columns, model)
    noise = Noise.of_step(0, 0, 2)
    batches = [task.batch(prepared, rows, noise) for rows in (np.array([0, 1]), np.array([2, 2]))]
    joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    count = task.normalisers(joined)["text_targets"]
    expected, scalars = task.loss(model, joined | {"text_targets": torch.tensor(count)}, 0, noise)
    assert set(task.training_metrics) <= set(scalars)
    losses = [task.loss(model, batch | {"text_targets": torch.tensor(count / 2)}, 0, noise)[0] for batch in batches]
    torch.testing.assert_close(torch.stack(losses).mean(), expected)
