"""Sparse attention against the dense reference: the same outputs and gradients, at any grid and kind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from models.prior import Prior, PriorConfig, attention, prior_loss, text_tensor
from models.prior.attention import DenseAttention, FlexAttention, LocalAttention
from models.prior.masks import Kind

KINDS: list[Kind] = ["row", "column", "conv"]
PREFIX = 5


def qkv(grid: tuple[int, int], dtype: torch.dtype = torch.float64, width: int = 8) -> list[Tensor]:
    length = PREFIX + grid[0] * grid[1] - 1
    return [torch.randn(2, 3, length, width, dtype=dtype, requires_grad=True) for _ in range(3)]


def outputs_and_gradients(attend: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    out = attend(*inputs)
    return [out, *torch.autograd.grad(out.sin().sum(), inputs)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (3, 13), (13, 3), (16, 12)])
def test_local_is_dense(kind: Kind, grid: tuple[int, int]) -> None:
    inputs = qkv(grid)
    dense, local = (outputs_and_gradients(cls(kind, PREFIX, grid), inputs) for cls in (DenseAttention, LocalAttention))
    torch.testing.assert_close(local, dense, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", [(8, 8), (3, 13), (32, 32)])
def test_flex_is_dense(kind: Kind, grid: tuple[int, int]) -> None:
    inputs = qkv(grid, torch.float32)  # on a CPU torch has its forward only
    flex, dense = (cls(kind, PREFIX, grid)(*inputs) for cls in (FlexAttention, DenseAttention))
    torch.testing.assert_close(flex, dense, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_flex_is_dense_with_its_gradients(kind: Kind) -> None:
    # FlexAttention's kernel takes heads from a width of 16 on; more than 128 positions are several blocks.
    inputs = [x.detach().cuda().requires_grad_() for x in qkv((16, 16), torch.float32, width=16)]
    flex, dense = (
        outputs_and_gradients(cls(kind, PREFIX, (16, 16)).cuda(), inputs) for cls in (FlexAttention, DenseAttention)
    )
    torch.testing.assert_close(flex, dense, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_local_attention_are_its_derivatives(kind: Kind) -> None:
    local = LocalAttention(kind, 2, (3, 4))
    inputs = [torch.randn(1, 1, 13, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(local, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_flex_skips_the_empty_blocks_of_the_papers_grid(kind: Kind) -> None:
    blocks = FlexAttention(kind, 258, (32, 32))._block_mask(torch.device("cpu"))
    assert blocks.sparsity() > 55  # percent of blocks; causal attention alone has 45


@pytest.mark.parametrize(("kind", "keys"), [("row", 64), ("column", 32), ("conv", 224)])
def test_local_reads_few_image_keys_at_the_papers_grid(kind: Kind, keys: int) -> None:
    assert LocalAttention(kind, 258, (32, 32)).mask.shape == (32, 32, keys)


def test_a_prior_trains_alike_on_sparse_and_dense_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "LOCAL_MAX_SHARE", 1)  # on a grid as small as this one, too
    config = PriorConfig(
        layers=5, heads=2, head_width=8, text_length=6, text_vocabulary=50, grid_height=6, grid_width=7, codebook_size=9
    )
    prior = Prior(config).double()
    text, image_tokens = text_tensor([[1, 2], [3]], prior.layout), torch.randint(9, (2, 42))
    found = []
    for prior.sparse in (False, True):
        prior.zero_grad()
        loss = prior_loss(prior, text, image_tokens)
        loss.loss.backward()
        found.append([loss.loss.detach(), *(p.grad.clone() for p in prior.parameters() if p.grad is not None)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)


@pytest.mark.gpu
def test_a_prior_trains_on_a_gpu_as_on_a_cpu() -> None:
    config = PriorConfig(5, 2, 16, text_length=6, text_vocabulary=50, grid_height=23, grid_width=23, codebook_size=9)
    prior = Prior(config)
    assert prior.sparse  # so that the GPU takes FlexAttention
    text, image_tokens = text_tensor([[1, 2], [3]], prior.layout), torch.randint(9, (2, 529))

    def loss_and_gradients(device: str) -> list[Tensor]:
        model = copy.deepcopy(prior).to(device)
        loss = prior_loss(model, text.to(device), image_tokens.to(device)).loss
        loss.backward()
        return [x.detach().cpu() for x in (loss, *(p.grad for p in model.parameters() if p.grad is not None))]

    torch.testing.assert_close(loss_and_gradients("cuda"), loss_and_gradients("cpu"), rtol=1e-3, atol=1e-5)
