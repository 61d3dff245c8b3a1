"""The five defects of the best-known reproduction (dalle-pytorch 1.6.6): ours has none of them.

Each test would fail on that implementation.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models.dvae.loss import kl_to_uniform
from models.prior import Prior, PriorConfig, text_tensor
from models.prior.masks import image_mask, layer_kind
from t2i.engine import Engine, Request
from t2i.sampling import SamplingParams

CONFIG = PriorConfig(
    layers=3, heads=2, head_width=8, text_length=5, text_vocabulary=40, grid_height=4, grid_width=4, codebook_size=16
)


@pytest.fixture
def prior() -> Prior:
    prior = Prior(CONFIG).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return prior


def draw(prior: Prior, request: Request) -> list[list[int]]:
    engine, tokens = Engine(prior, slots=4), {}
    engine.add(request)
    while engine.has_work:
        for finished in engine.step().finished:
            tokens[finished.candidate] = finished.image_tokens.tolist()
    return [tokens[candidate] for candidate in sorted(tokens)]


def test_1_the_kl_does_not_grow_with_the_batch() -> None:
    """A KL that broadcasts under ``batchmean`` was 9.6 / 15.2 / 61.0 at batch 1 / 2 / 8."""
    logits = torch.randn(1, 8, 4, 4)
    alone = kl_to_uniform(logits).mean()
    for batch in (2, 8):
        torch.testing.assert_close(kl_to_uniform(logits.expand(batch, -1, -1, -1)).mean(), alone)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_2_the_cache_is_used_with_and_without_guidance(
    prior: Prior, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the prefill every step feeds one position of each slot, never the stream again."""
    fed: list[int] = []
    forward = prior.forward

    def counting_forward(stream: Tensor, *rest: Any, **more: Any) -> Tensor:
        fed.append(stream.shape[1])
        return forward(stream, *rest, **more)

    monkeypatch.setattr(prior, "forward", counting_forward)
    draw(prior, Request("a", (1, 2), 2, seed=0, sampling=SamplingParams(guidance=guidance)))
    prefills = 1 if guidance == 1 else 2
    assert fed[:prefills] == [prior.layout.prefix_length] * prefills
    assert set(fed[prefills:]) == {1}


def test_3_guidance_reads_a_cache_of_its_own(prior: Prior) -> None:
    """Reusing the captioned keys and values for the uncaptioned pass makes guided output equal to unguided."""
    plain, guided = (
        draw(prior, Request("a", (1, 2, 3), 4, seed=0, sampling=SamplingParams(guidance=guidance)))
        for guidance in (1.0, 50.0)
    )
    assert plain != guided


def test_4_the_callers_text_is_left_alone(prior: Prior) -> None:
    text = text_tensor([[1, 2, 3]], prior.layout)
    before = text.clone()
    prior(prior.layout.inputs(text, torch.zeros(1, 16, dtype=torch.long)))
    request = Request("a", (1, 2, 3), 1, seed=0, sampling=SamplingParams(guidance=2.0))
    draw(prior, request)
    assert torch.equal(text, before)
    assert request.text == (1, 2, 3)


def test_5_row_attention_crosses_row_ends_and_the_last_layer_is_convolutional() -> None:
    row = image_mask("row", (4, 4))
    assert row[4, 3]  # the first token of a row sees the end of the row above
    assert row[5].nonzero()[:, 0].tolist() == [1, 2, 3, 4, 5]
    for layers in (1, 2, 6, 64):
        kinds = [layer_kind(layer, layers) for layer in range(layers)]
        assert kinds[-1] == "conv"
        assert kinds.count("conv") == 1
