"""Every preset is instantiated on the meta device and has the sizes it is named after."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.dvae import DVAE
from models.presets import PRESETS, get_preset
from models.prior import Prior, PriorConfig, prior_cost

BLOCKS = {"small": 6.29e6, "base": 0.302e9, "1b": 1.21e9, "2.8b": 2.83e9, "5.5b": 5.55e9, "12b": 12.09e9}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_as_accounted(name: str) -> None:
    with torch.device("meta"):
        prior = Prior(PRESETS[name].prior)
    cost = prior_cost(prior.config)
    assert cost.parameters == count(prior)
    assert cost.blocks == sum(parameter.numel() for parameter in prior.blocks.parameters() if parameter.ndim == 2)


@pytest.mark.parametrize(("name", "blocks"), BLOCKS.items())
def test_priors_are_of_the_named_size(name: str, blocks: float) -> None:
    assert prior_cost(PRESETS[name].prior).blocks == pytest.approx(blocks, rel=0.02)


def test_the_papers_dvae_has_53_8_and_43_8_million_parameters() -> None:
    with torch.device("meta"):
        dvae = DVAE(get_preset("12b").dvae)
    assert count(dvae.encoder) == pytest.approx(53.8e6, abs=0.05e6)
    assert count(dvae.decoder) == pytest.approx(43.8e6, abs=0.05e6)


def test_the_papers_cache_takes_a_megabyte_a_token() -> None:
    assert 2 * prior_cost(get_preset("12b").prior).kv_values_per_token == 2 * 2 * 64 * 3968


def test_flops_are_those_that_torch_counts() -> None:
    config = PriorConfig(
        layers=3, heads=2, text_length=4, text_vocabulary=64, grid_height=4, grid_width=4, codebook_size=32
    )
    prior = Prior(config)
    prior.sparse = False
    with FlopCounterMode(display=False) as counter:
        hidden = prior(torch.zeros(1, prior.layout.length, dtype=torch.long))
        prior.image_logits(hidden)
    length, width = prior.layout.length, config.width
    dense_attention = config.layers * 4 * width * length  # a token; the masks leave fewer keys
    masks = [prior.dense[kind].get_buffer("mask")[prior.layout.prefix_length - 1 :] for kind in prior.kinds]
    keys = sum(mask.float().sum(1).mean().item() for mask in masks)
    expected = counter.get_total_flops() / length - dense_attention + 4 * width * keys
    assert prior_cost(config).flops_per_image_token == pytest.approx(expected, rel=0.03)
