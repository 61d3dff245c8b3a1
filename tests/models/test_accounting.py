"""What training costs, counted from the configuration, against what PyTorch counts while tiny models train.

PyTorch counts an attention's products only where it runs as plain matrix products, and there all pairs of query and
key. So attention runs as such here, and the pairs that masks hide are added to what is expected.
"""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from models.dvae import DVAE, DVAEConfig, dvae_flops
from models.prior import Prior, PriorConfig, prior_loss, stream_flops
from models.prior.accounting import attended_pairs
from models.reranker import CLIPConfig, CLIPReranker, clip_training_flops
from models.reranker.accounting import IMAGE_FEATURES, TEXT_FEATURES
from t2i.train.tasks.clip import contrastive_loss

PRIOR = PriorConfig(5, 2, 8, text_length=6, text_vocabulary=20, grid_height=4, grid_width=5, codebook_size=16)
PRIOR_BATCH = 3
HIDDEN_PAIRS = PRIOR.layers * PRIOR.layout.length**2 - attended_pairs(PRIOR)


def counted(loss: Callable[[], Tensor]) -> int:
    """FLOPs of a forward and backward pass as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss().backward()
    return counter.get_total_flops()


def prior_step() -> tuple[Prior, Callable[[], Tensor]]:
    prior = Prior(PRIOR)
    text = torch.randint(PRIOR.text_vocabulary, (PRIOR_BATCH, PRIOR.text_length))
    image_tokens = torch.randint(PRIOR.codebook_size, (PRIOR_BATCH, PRIOR.layout.image_length))
    return prior, lambda: prior_loss(prior, text, image_tokens).loss


def test_prior() -> None:
    _, step = prior_step()
    hidden = 3 * 4 * PRIOR.width * HIDDEN_PAIRS
    assert counted(step) == PRIOR_BATCH * (stream_flops(PRIOR).training() + hidden)


def test_prior_with_recomputed_blocks() -> None:
    """Checkpointed blocks run forward twice: wholly, once they are not allowed to leave out their last product."""
    prior, step = prior_step()
    for block in prior.blocks:
        forward = block.forward
        block.forward = lambda x, attend, forward=forward: checkpoint(forward, x, attend, use_reentrant=False)
    hidden = 4 * 4 * PRIOR.width * HIDDEN_PAIRS
    with set_checkpoint_early_stop(False):
        assert counted(step) == PRIOR_BATCH * (stream_flops(PRIOR).training(recomputed=True) + hidden)


def test_the_prior_s_pairs_are_those_of_its_masks() -> None:
    prior = Prior(PRIOR)
    assert attended_pairs(PRIOR) == sum(int(prior.dense[kind].get_buffer("mask").sum()) for kind in prior.kinds)


def test_a_stream_of_the_paper_s_prior_costs_six_flops_per_parameter_and_token() -> None:
    """The usual rule of thumb, 6 P L, leaves out attention, which the masks keep small."""
    flops, config = stream_flops(PriorConfig()), PriorConfig()
    rule = 6 * 12 * config.width**2 * config.layers * config.layout.length
    assert flops.training() == pytest.approx(rule, rel=0.03)


@pytest.mark.parametrize(
    "config",
    [
        DVAEConfig(8, groups=3, blocks_per_group=2, codebook_size=12, decoder_input_width=4),
        DVAEConfig(8, groups=1, blocks_per_group=1, codebook_size=5, decoder_input_width=8),
    ],
)
def test_dvae(config: DVAEConfig) -> None:
    dvae, images = DVAE(config), torch.rand(2, 3, 16, 16)

    def loss() -> Tensor:
        logits, maps = dvae(images, 1.0)
        return logits.sum() + maps.sum()

    assert counted(loss) == 2 * dvae_flops(config, 16).training


def test_clip_of_open_clip() -> None:
    config = CLIPConfig(architecture="ViT-S-32-alt")
    clip = CLIPReranker(config)
    images, text = torch.rand(2, 3, 224, 224), clip.tokenize(["a red heart", "smiling cat"])
    sizes = open_clip.get_model_config(config.architecture)["text_cfg"]
    hidden = sizes["layers"] * sizes["context_length"] * (sizes["context_length"] - 1) // 2  # the future, causally
    expected = clip_training_flops(config, 2) + 2 * 3 * 4 * sizes["width"] * hidden
    assert counted(lambda: contrastive_loss(similarity(clip, images, text))) == expected


def test_small_clip_costs_only_its_heads() -> None:
    config = CLIPConfig(image_size=32, width=16, hidden=24)
    clip = CLIPReranker(config)
    outputs = torch.rand(4, IMAGE_FEATURES), torch.rand(4, TEXT_FEATURES)
    assert counted(lambda: contrastive_loss(similarity(clip, *outputs))) == clip_training_flops(config, 4)


def test_a_convolutional_tower_is_not_accounted_for() -> None:
    assert clip_training_flops(CLIPConfig(architecture="RN50"), 2) is None


def similarity(clip: CLIPReranker, images: Tensor, text: Tensor) -> Tensor:
    image_features, text_features = clip(images, text)
    return image_features @ text_features.T
