"""The models of a run together: decoding, previews, number formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.errors import UserError
from t2i.engine import TextToImage


@pytest.fixture(scope="module")
def model(tiny_run) -> TextToImage:
    return TextToImage.load(tiny_run, slots=4)


@pytest.fixture(scope="module")
def image_tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 32, (3, 64), np.int32)


def test_a_preview_shows_the_rows_there_are_above_grey(model: TextToImage, image_tokens: np.ndarray) -> None:
    assert np.array_equal(model.preview(image_tokens), model.decode(image_tokens))
    preview = model.preview(image_tokens[:, : 3 * 8])
    assert preview.shape == (3, 32, 32, 3)
    assert preview.dtype == np.uint8
    assert (preview[:, 12:] == 128).all()
    assert len(np.unique(preview[:, :12])) > 1


def test_a_preview_of_half_a_row_is_refused(model: TextToImage, image_tokens: np.ndarray) -> None:
    with pytest.raises(ValueError, match="whole rows of 8"):
        model.preview(image_tokens[:, :12])


def test_a_run_is_loaded_in_bfloat16_and_draws_about_the_same(
    tiny_run, model: TextToImage, image_tokens: np.ndarray
) -> None:
    rounded = TextToImage.load(tiny_run, slots=4, dtype="bfloat16")
    assert rounded.dvae.decoder.maps.weight.dtype == torch.bfloat16
    exact, drawn = model.decode(image_tokens), rounded.decode(image_tokens)
    assert np.abs(exact.astype(int) - drawn.astype(int)).mean() < 1
    scores = model.rank(exact, "a red circle").scores, rounded.rank(exact, "a red circle").scores
    assert torch.allclose(*scores, atol=0.02)
    (generation,) = rounded.generate(["a red circle"], candidates=2, seed=0)
    assert generation.images.shape == (2, 32, 32, 3)


def test_an_unknown_number_format_is_refused(tiny_run) -> None:
    with pytest.raises(UserError, match="dtype is 'half': use float32 or bfloat16"):
        TextToImage.load(tiny_run, dtype="half")
