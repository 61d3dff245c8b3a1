from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from models.dvae import DVAE
from models.dvae.loss import logit_laplace_nll
from models.errors import UserError
from t2i.data.columns import caption_array
from t2i.data.packed_images import pack_images
from t2i.evaluate.candidates import to_png
from t2i.train.config import TrainConfig
from t2i.train.noise import Noise
from t2i.train.tasks.base import Columns
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig, codebook_use
from tests.t2i.train.tiny import tiny_dvae

NOISE = Noise.of_step(0, 0, 4)


@pytest.fixture
def task() -> DVAETask:
    return DVAETask(DVAETaskConfig(model=tiny_dvae(), image_size=8))


@pytest.fixture
def plain() -> DVAETask:
    """Without augmentation, training takes pixels too."""
    return DVAETask(DVAETaskConfig(model=tiny_dvae(), image_size=8, augment=False))


@pytest.fixture
def columns() -> Columns:
    return {"pixels": np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)}


def test_the_loss_has_gradients_everywhere_and_repeats_with_its_noise(plain: DVAETask, columns: Columns) -> None:
    task, model = plain, plain.build()
    batch = task.batch(columns, np.arange(4), NOISE)
    (first, scalars), (again, _) = (task.loss(model, batch, 100, NOISE) for _ in range(2))
    assert set(task.training_metrics) <= set(scalars)
    assert torch.equal(first, again)
    first.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_decoder_alone_is_trained_on_the_tokens_that_priors_draw(columns: Columns) -> None:
    task = DVAETask(DVAETaskConfig(model=tiny_dvae(), image_size=8, augment=False, decoder_only=True))
    model = task.build()
    assert isinstance(model, DVAE)
    batch = task.batch(columns, np.arange(4), NOISE)
    loss, scalars = task.loss(model, batch, 0, NOISE)
    maps = model.decoder.from_tokens(model.encode(batch["images"]).view(4, 4, 4))
    expected = logit_laplace_nll(batch["images"], *maps.chunk(2, dim=1)).mean()
    assert scalars["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.decoder.parameters())
    assert task.headline.metric == "psnr"


def test_a_decoder_alone_needs_a_dvae_to_begin_with(plain: DVAETask) -> None:
    plain.check(TrainConfig())
    plain.config.decoder_only = True
    plain.check(TrainConfig(start_from="run/dvae/model"))
    remedy = r"task\.decoder_only is true: name the dVAE to begin with in train\.start_from"
    with pytest.raises(UserError, match=remedy):
        plain.check(TrainConfig())


def test_training_images_are_views_that_repeat_with_their_noise(task: DVAETask) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    rows, encoded = np.zeros(32, int), columns_of([file.getvalue()])
    drawn, again = (task.batch(encoded, rows, Noise.of_step(7, 0, 32))["images"] for _ in range(2))
    assert drawn.shape == (32, 3, 8, 8)
    assert torch.equal(drawn, again)
    assert len({tuple(view.flatten().tolist()) for view in drawn}) > 20


def columns_of(images: list[bytes]) -> Columns:
    captions = caption_array([["a caption"]] * len(images))
    return {"id": np.arange(len(images)).astype(str), "captions": captions, **pack_images(images)}


def test_images_that_are_still_encoded_train_as_decoded_ones_do(plain: DVAETask, columns: Columns) -> None:
    encoded = columns_of([to_png(image) for image in columns["pixels"]])
    rows = np.array([5, 0, 3, 3])
    assert torch.equal(plain.batch(encoded, rows, NOISE)["images"], plain.batch(columns, rows, NOISE)["images"])


def test_validation_images_are_whole_and_unchanged(task: DVAETask) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    images = task.batch({"pixels": pixels}, np.arange(2))["images"]
    assert np.array_equal(images.mul(255).round().byte().permute(0, 2, 3, 1).numpy(), pixels)


def test_metrics_repeat_and_those_without_noise_do_not_depend_on_the_batch_size(
    task: DVAETask, columns: Columns
) -> None:
    model = task.build().eval()
    one, again = (task.validate(model, columns, 6) for _ in range(2))
    assert one == again
    assert {task.headline.metric, task.overfitting_metric.metric, *task.validation_metrics} <= set(one)
    in_batches = task.validate(model, columns, 4)
    for name in ("psnr", "kl", "codes_used", "perplexity"):
        assert in_batches[name] == pytest.approx(one[name], rel=1e-4)
    assert 0 <= one["kl"] <= 16 * math.log(16)


def test_psnr_is_that_of_the_argmax_reconstruction(task: DVAETask, columns: Columns) -> None:
    model = task.build().eval()
    assert isinstance(model, DVAE)
    images = task.batch(columns, np.arange(6))["images"]
    mse = (model.decode(model.encode(images)) - images).square().mean(dim=(1, 2, 3))
    expected = (-10 * mse.log10()).mean().item()
    assert task.validate(model, columns, 6)["psnr"] == pytest.approx(expected, rel=1e-4)


def test_codebook_use() -> None:
    assert codebook_use(torch.tensor([5, 5, 0, 0])) == {"codes_used": 0.5, "perplexity": pytest.approx(2.0)}


def test_originals_stand_over_their_reconstructions(task: DVAETask, columns: Columns) -> None:
    picture = task.pictures(task.build().eval(), columns)["reconstructions"]
    assert picture.shape == (3, 2 * 10, 6 * 10)


def test_images_of_another_size_are_refused(task: DVAETask) -> None:
    with pytest.raises(UserError, match=r"task\.image_size is 8 but images are 4 px"):
        task.prepare({"pixels": np.zeros((1, 4, 4, 3), np.uint8)}, task.build())


def test_a_size_that_the_grid_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.image_size is 9: use a multiple of 2"):
        DVAETaskConfig(model=tiny_dvae(), image_size=9)
