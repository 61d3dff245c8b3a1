"""The dVAE: sizes, relaxation, and the terms of its bound."""

from __future__ import annotations

import math

import pytest
import torch

from models.dvae import DVAE, DVAEConfig, evidence_lower_bound
from models.dvae.dvae import gumbel_softmax
from models.dvae.loss import from_logit_laplace, kl_to_uniform, logit_laplace_nll, to_logit_laplace

CONFIG = DVAEConfig(width=16, groups=3, codebook_size=32, decoder_input_width=16)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_preset_has_the_released_models_parameter_counts() -> None:
    with torch.device("meta"):
        model = DVAE(DVAEConfig())
    assert parameters(model.encoder) == pytest.approx(53.8e6, rel=1e-3)
    assert parameters(model.decoder) == pytest.approx(43.8e6, rel=1e-3)


def test_an_image_becomes_a_grid_of_tokens_and_an_image_again() -> None:
    model, images = DVAE(CONFIG), torch.rand(2, 3, 16, 24)
    tokens = model.encode(images)
    assert tokens.shape == (2, 4 * 6)
    decoded = model.decode(tokens, grid=(4, 6))
    assert decoded.shape == images.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1


def test_looking_a_token_up_equals_convolving_its_one_hot_vector() -> None:
    model, tokens = DVAE(CONFIG), torch.randint(32, (2, 4, 4))
    one_hot = torch.nn.functional.one_hot(tokens, 32).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(model.decoder.from_tokens(tokens), model.decoder(one_hot), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 17, 16), (1, 1, 16, 16), (3, 16, 16)])
def test_images_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        DVAE(CONFIG).encode(torch.rand(shape))


def test_logit_laplace_is_a_density_over_the_unit_interval() -> None:
    """Integrates to one over x; the loss takes pixels, whose image under phi covers (0.1, 0.9) only."""
    mu, ln_b = torch.tensor(0.3), torch.tensor(-1.0)
    x = torch.linspace(1e-5, 1 - 1e-5, 400_001, dtype=torch.float64)
    pixels = (x - 0.1) / 0.8
    density = torch.exp(-logit_laplace_nll(pixels, mu, ln_b))
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-3)


def test_phi_and_its_inverse() -> None:
    x = torch.rand(100)
    torch.testing.assert_close(from_logit_laplace(to_logit_laplace(x)), x)
    assert to_logit_laplace(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0.1, 0.9])
    assert from_logit_laplace(torch.tensor([0.0, 1.0])).tolist() == [0, 1]


def test_kl_is_zero_for_uniform_and_ln_k_per_position_for_certain_codes() -> None:
    uniform = torch.zeros(2, 32, 4, 4)
    certain = torch.zeros(2, 32, 4, 4)
    certain[:, 3] = 1e4
    torch.testing.assert_close(kl_to_uniform(uniform), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(kl_to_uniform(certain), torch.full((2,), 16 * math.log(32)))


def test_the_bound_does_not_grow_with_the_batch() -> None:
    model, images = DVAE(CONFIG), torch.rand(1, 3, 16, 16)
    logits, maps = model(images, 1.0)
    one = evidence_lower_bound(images, maps, logits, 1.0)
    images, maps, logits = (tensor.expand(8, -1, -1, -1) for tensor in (images, maps, logits))
    eight = evidence_lower_bound(images, maps, logits, 1.0)
    torch.testing.assert_close(one.loss, eight.loss)
    torch.testing.assert_close(one.loss, one.reconstruction + one.kl)


def test_gumbel_softmax_draws_the_softmax_and_hardens_with_tau() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(20_000, 3, 1, 1)
    soft = gumbel_softmax(logits, tau=0.01)
    shares = torch.bincount(soft.argmax(1).flatten(), minlength=3) / 20_000
    torch.testing.assert_close(shares, torch.tensor([1.0, 0.0, -1.0]).softmax(0), atol=0.015, rtol=0)
    assert soft.max(1).values.mean() > 0.98
    torch.testing.assert_close(soft.sum(1), torch.ones(20_000, 1, 1))


def test_every_parameter_gets_a_gradient_through_the_relaxed_sample() -> None:
    model, images = DVAE(CONFIG), torch.rand(2, 3, 16, 16)
    logits, maps = model(images, tau=0.5)
    evidence_lower_bound(images, maps, logits, 1.0).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_an_image_draws_the_same_noise_from_its_own_generator_in_any_batch() -> None:
    logits = torch.randn(4, 8, 3, 3)
    seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
    together = gumbel_softmax(logits, 1.0, seeds)
    halves = [torch.Generator().manual_seed(seed) for seed in range(4)]
    parts = [gumbel_softmax(logits[i : i + 2], 1.0, halves[i : i + 2]) for i in (0, 2)]
    assert torch.equal(torch.cat(parts), together)
