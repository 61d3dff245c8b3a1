"""The dVAE in use: what makes it fast changes nothing but the last bits, and bfloat16 little more."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.dvae import DVAE, DVAEConfig, dvae
from models.dvae.blocks import ResidualBlock
from models.dvae.dvae import gumbel_softmax

CONFIG = DVAEConfig(width=16, groups=3, codebook_size=32, decoder_input_width=16)
SHALLOW = DVAEConfig(width=16, groups=2, blocks_per_group=1, codebook_size=32, decoder_input_width=16)


@pytest.fixture
def model() -> DVAE:
    """Random weights that leave no part without effect: released ones have larger residuals than those at the start."""
    model = DVAE(CONFIG).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def plain(block: ResidualBlock, x: Tensor) -> Tensor:
    """The block as the paper draws it: resized first, nothing in place."""
    x = hidden = block.upsample(x)
    for name in ("1", "3", "5", "7"):
        hidden = block.residual.get_submodule(name)(F.relu(hidden))
    return block.identity(x) + block.post_gain * hidden


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("n_in", [8, 16])
def test_a_block_is_the_plain_one_forward_and_backward(n_in: int, upsample: bool) -> None:
    block = ResidualBlock(n_in, 16, (1, 3, 3, 3), 2, upsample=upsample)
    x = torch.randn(2, n_in, 6, 6, requires_grad=True)
    ours, expected = block(x), plain(block, x)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    weight, inputs = torch.randn_like(expected), (x, *block.parameters())
    gradients = (torch.autograd.grad((result * weight).sum(), inputs) for result in (ours, expected))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_block_leaves_its_input_as_it_was() -> None:
    block, x = ResidualBlock(16, 16, (3, 3, 3, 1), 2), torch.randn(1, 16, 4, 4)
    before = x.clone()
    torch.testing.assert_close(block(x), plain(block, x), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)


@torch.no_grad()
def test_channels_last_changes_no_logit_and_no_map(model: DVAE) -> None:
    images, tokens = torch.rand(2, 3, 16, 24), torch.randint(32, (2, 4, 6))
    logits, maps = model.encode_logits(images), model.decoder.from_tokens(tokens)
    model.for_inference("float32")
    torch.testing.assert_close(model.encode_logits(images), logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.decoder.from_tokens(tokens), maps, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_bfloat16_takes_and_gives_float32_and_stays_near(model: DVAE) -> None:
    images, tokens = torch.rand(4, 3, 16, 16), torch.randint(32, (4, 16))
    logits, decoded = model.encode_logits(images), model.decode(tokens)
    model.for_inference("bfloat16")
    rounded = model.encode_logits(images)
    assert rounded.dtype == model.decode(tokens).dtype == torch.float32
    assert (rounded - logits).std() < 0.02 * logits.std()
    assert (model.decode(tokens) - decoded).abs().mean() < 0.01
    one_hot = F.one_hot(tokens.view(4, 4, 4), 32).permute(0, 3, 1, 2).float()
    assert model.decoder(one_hot).dtype == torch.bfloat16


@pytest.mark.parametrize("pixels", [1, 2 * 16 * 24])
def test_large_batches_are_computed_in_parts(model: DVAE, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(5, 3, 16, 24)
    tokens = model.encode(images)
    decoded = model.decode(tokens, (4, 6))
    monkeypatch.setattr(dvae, "BATCH_PIXELS", pixels)
    assert torch.equal(model.encode(images), tokens)
    torch.testing.assert_close(model.decode(tokens, (4, 6)), decoded)


def test_no_images_are_no_tokens_and_no_images(model: DVAE) -> None:
    assert model.encode(torch.zeros(0, 3, 16, 24)).shape == (0, 24)
    assert model.decode(torch.zeros(0, 24, dtype=torch.long), (4, 6)).shape == (0, 3, 16, 24)


def test_a_draw_does_not_depend_on_the_layout_of_the_logits() -> None:
    logits = torch.randn(2, 8, 3, 3)
    first, second = (
        gumbel_softmax(laid, 1.0, [torch.Generator().manual_seed(0)])
        for laid in (logits, logits.contiguous(memory_format=torch.channels_last))
    )
    torch.testing.assert_close(first, second)


def test_a_preview_is_the_image_far_above_the_cut_and_grey_below_it() -> None:
    """One block at each of two sizes reaches (3 + 3 / 2) rows of the grid up from the cut, at most 5."""
    model, tokens = DVAE(SHALLOW).eval(), torch.randint(32, (2, 9 * 4))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    complete, preview = model.decode(tokens, (9, 4)), model.preview(tokens[:, : 7 * 4], (9, 4))
    assert preview.shape == complete.shape
    torch.testing.assert_close(preview[:, :, : 2 * 2], complete[:, :, : 2 * 2])
    assert not torch.allclose(preview[:, :, 6 * 2 : 7 * 2], complete[:, :, 6 * 2 : 7 * 2])
    assert (preview[:, :, 7 * 2 :] == 0.5).all()


def test_a_preview_of_all_rows_is_the_image_and_of_none_is_grey(model: DVAE) -> None:
    tokens = torch.randint(32, (2, 24))
    assert torch.equal(model.preview(tokens, (4, 6)), model.decode(tokens, (4, 6)))
    assert torch.equal(model.preview(tokens[:, :0], (4, 6)), torch.full((2, 3, 16, 24), 0.5))


@pytest.mark.parametrize("count", [1, 7, 25, 30])
def test_a_preview_of_half_a_row_or_too_many_is_refused(model: DVAE, count: int) -> None:
    with pytest.raises(ValueError, match=f"image_tokens are {count}: use whole rows of 6, up to 4"):
        model.preview(torch.zeros(1, count, dtype=torch.long), (4, 6))


def test_loading_for_use_leaves_the_weights_of_a_checkpoint(model: DVAE) -> None:
    before = copy.deepcopy(model.state_dict())
    after = model.for_inference("float32").state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
