"""The joint bound: below the exact likelihood of a model small enough to sum over, and equal to it where q is p."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from models.dvae import DVAE, DVAEConfig
from models.dvae.loss import EPSILON, logit_laplace_nll
from models.joint import bits_per_dimension, joint_elb
from models.prior import Prior, PriorConfig, text_tensor, token_nats

K = 3


@pytest.fixture
def models() -> tuple[DVAE, Prior]:
    """2 x 2 tokens of a codebook of 3: 81 images tokens in all."""
    dvae = DVAE(DVAEConfig(width=8, groups=2, blocks_per_group=1, codebook_size=K, decoder_input_width=8)).eval()
    config = PriorConfig(
        layers=2, heads=1, head_width=8, text_length=3, text_vocabulary=5, grid_height=2, grid_width=2, codebook_size=K
    )
    prior = Prior(config).eval()
    for parameter in [*dvae.parameters(), *prior.parameters()]:
        torch.nn.init.normal_(parameter, std=0.4)
    return dvae, prior


@torch.no_grad()
def exact(dvae: DVAE, prior: Prior, image: torch.Tensor, text: torch.Tensor) -> float:
    """ln p(x, y) by summing over all image tokens."""
    terms = []
    for tokens in itertools.product(range(K), repeat=4):
        z = torch.tensor([tokens])
        mu, ln_b = dvae.decoder.from_tokens(z.view(1, 2, 2)).chunk(2, dim=1)
        nats = token_nats(prior, text, z)
        density = -logit_laplace_nll(image, mu, ln_b).sum() + image.numel() * math.log((1 - 2 * EPSILON) / 256)
        terms.append(density - nats.image.sum() - nats.text.sum())
    return torch.stack(terms).logsumexp(0).item()


def test_the_bound_is_below_the_likelihood(models: tuple[DVAE, Prior]) -> None:
    dvae, prior = models
    image, text = torch.rand(1, 3, 4, 4), text_tensor([[1, 2]], prior.layout)
    draws = [joint_elb(dvae, prior, image, text, torch.Generator().manual_seed(seed)).total for seed in range(300)]
    mean = torch.cat(draws).mean().item()
    assert mean < exact(dvae, prior, image, text)


def test_the_bound_is_the_likelihood_when_the_tokens_say_nothing(models: tuple[DVAE, Prior]) -> None:
    """A decoder and a prior that ignore z, and a uniform q: q(z|x) is p(z|x,y), and any draw gives ln p(x, y)."""
    dvae, prior = models
    for name in ("encoder.logits.weight", "encoder.logits.bias", "decoder.input.weight"):
        torch.nn.init.zeros_(dvae.get_parameter(name))
    torch.nn.init.zeros_(prior.image_head.weight)
    image, text = torch.rand(1, 3, 4, 4), text_tensor([[1]], prior.layout)
    bound = joint_elb(dvae, prior, image, text, torch.Generator()).total.item()
    assert bound == pytest.approx(exact(dvae, prior, image, text), rel=1e-5)


def test_terms_are_of_one_image_each_and_add_up(models: tuple[DVAE, Prior]) -> None:
    dvae, prior = models
    images, text = torch.rand(2, 3, 4, 4), text_tensor([[1], [2, 3, 4]], prior.layout)
    together = joint_elb(dvae, prior, images, text, torch.Generator().manual_seed(0))
    assert together.total.shape == (2,)
    alone = joint_elb(dvae, prior, images[:1], text[:1], torch.Generator().manual_seed(0))
    torch.testing.assert_close(together.text_tokens[:1], alone.text_tokens)
    torch.testing.assert_close(together.entropy[:1], alone.entropy)
    assert (together.entropy >= 0).all()
    assert (together.entropy <= 4 * math.log(K) + 1e-5).all()


def test_bits_per_dimension() -> None:
    assert bits_per_dimension(torch.tensor(-48 * math.log(2)), 48).item() == pytest.approx(1)
