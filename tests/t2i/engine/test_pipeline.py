"""The models of a run together: decoding, previews, number formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import UserError
from t2i.engine import TextToImage


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> TextToImage:
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
    tiny_run: Path, model: TextToImage, image_tokens: np.ndarray
) -> None:
    rounded = TextToImage.load(tiny_run, slots=4, dtype="bfloat16")
    assert rounded.dvae.decoder.maps.weight.dtype == torch.bfloat16
    exact, drawn = model.decode(image_tokens), rounded.decode(image_tokens)
    assert np.abs(exact.astype(int) - drawn.astype(int)).mean() < 1
    scores = model.rank(exact, "a red circle").scores, rounded.rank(exact, "a red circle").scores
    assert torch.allclose(*scores, atol=0.02)
    (generation,) = rounded.generate(["a red circle"], candidates=2, seeds=0)
    assert generation.images.shape == (2, 32, 32, 3)


def test_an_unknown_number_format_is_refused(tiny_run: Path) -> None:
    with pytest.raises(UserError, match="dtype is 'half': use float32 or bfloat16"):
        TextToImage.load(tiny_run, dtype="half")


def test_each_caption_has_a_seed_of_its_own_or_all_have_the_same(model: TextToImage) -> None:
    captions = ["a red circle", "a blue square", "a red circle"]
    alone = [
        model.sample([caption], candidates=2, seeds=seed) for caption, seed in zip(captions, (1, 2, 3), strict=True)
    ]
    for sampled, (expected,) in zip(model.sample(captions, candidates=2, seeds=[1, 2, 3]), alone, strict=True):
        assert sampled.caption == expected.caption
        assert np.array_equal(sampled.image_tokens, expected.image_tokens)
    first, _, third = model.sample(captions, candidates=2, seeds=1)
    assert np.array_equal(first.image_tokens, third.image_tokens)
    with pytest.raises(ValueError, match="shorter"):
        model.sample(captions, candidates=1, seeds=[1, 2])


def test_generation_decodes_and_ranks_what_is_sampled(model: TextToImage) -> None:
    captions = ["a red circle, " * 30, "a blue square"]
    sampled = model.sample(captions, candidates=3, seeds=[1, 2])
    for generated, tokens in zip(model.generate(captions, candidates=3, seeds=[1, 2]), sampled, strict=True):
        assert (generated.truncated, generated.candidates.tolist()) == (tokens.truncated, [0, 1, 2])
        assert np.array_equal(generated.image_tokens, tokens.image_tokens)
        assert np.array_equal(generated.images, model.decode(tokens.image_tokens))
        assert generated.order.tolist() == np.argsort(-generated.scores, kind="stable").tolist()
    assert [caption.truncated for caption in sampled] == [True, False]
