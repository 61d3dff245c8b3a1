"""One decoding step's attention: in C as in torch, and both as one softmax over everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.prior.decoding import kernels as kernels_module
from models.prior.decoding.decode_attention import (
    decode_attention,
    decode_attention_in_c,
    decode_attention_in_torch,
)
from models.prior.decoding.kernels import kernels
from models.prior.decoding.partial_attention import (
    PartialAttention,
    merge_partials,
    partial_attention,
    partial_attention_reference,
)
from models.prior.decoding.rings import RingBuffer
from models.prior.decoding.shared_text import TextAttention
from models.prior.masks import Kind
from models.prior.sampling import GROUP_SIZE, group_logsumexp

GRID = (7, 9)
SLOTS, HEADS, WINDOW = 6, 3, 3
OWNERS, POSITIONS = torch.tensor([0, 1, 2, 5, 5, 5]), torch.tensor([0, 1, 8, 41, 40, 42])


@pytest.fixture
def _no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CC", "/nowhere/cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels.cache_clear()
    yield
    kernels.cache_clear()


def inputs(kind: Kind, width: int, dtype: torch.dtype) -> tuple:
    """Queries, keys and values as a projection leaves them, ring buffers full of earlier tokens, text in blocks."""
    ring = RingBuffer(kind, GRID, torch.device("cpu"), WINDOW)
    q, k, v = torch.randn(SLOTS, 3, HEADS, 1, width, dtype=dtype).unbind(1)
    keys, values = torch.randn(2, SLOTS, ring.size, HEADS, width, dtype=dtype)
    step = ring.step(POSITIONS, OWNERS)
    blocks = PartialAttention(torch.randn(4, HEADS, 2, width, dtype=dtype), torch.randn(4, HEADS, 2))
    return q, k, v, keys, values, step, TextAttention(blocks, torch.tensor([0, 3, 2, 7, 5, 0]))


@pytest.mark.parametrize("kind", ["row", "column", "conv"])
@pytest.mark.parametrize("width", [64, 48, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_in_c_is_in_torch(kind: Kind, width: int, dtype: torch.dtype, tolerance: float) -> None:
    assert kernels(dtype), "no C compiler: the other half of this test would not run"
    q, k, v, keys, values, step, text = inputs(kind, width, dtype)
    rings = [(keys.clone(), values.clone()) for _ in range(2)]
    in_one_pass, reference = (
        decode_attention_in_c(q, k, v, *rings[0], step, text),
        decode_attention_in_torch(q, k, v, *rings[1], step, text),
    )
    torch.testing.assert_close(in_one_pass, reference, rtol=0, atol=tolerance)
    assert all(torch.equal(a, b) for a, b in zip(*rings, strict=True))
    torch.testing.assert_close(decode_attention(q, k, v, keys, values, step, text), in_one_pass)


def test_two_parts_make_the_whole() -> None:
    q, k, v = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 11, 8), torch.randn(2, 3, 11, 8)
    bias = torch.zeros(2, 1, 1, 6).masked_fill(torch.rand(2, 1, 1, 6) < 0.3, -torch.inf)
    expected = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=torch.cat([torch.zeros(2, 1, 1, 5), bias], -1)
    )
    for attend in (partial_attention, partial_attention_reference):
        merged = merge_partials(attend(q, k[:, :, :5], v[:, :, :5]), attend(q, k[:, :, 5:], v[:, :, 5:], bias))
        torch.testing.assert_close(merged, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_sums_of_groups(dtype: torch.dtype) -> None:
    assert kernels(dtype)
    logits = (5 * torch.randn(5, 3, GROUP_SIZE)).to(dtype)
    logits[1, 2] = -torch.inf
    logits[2, 0, 5:] = -torch.inf
    sharpness = torch.tensor([1.0, 2.0, 0.3, 1e6, 1.0])
    expected = (logits.double() * sharpness[:, None, None]).logsumexp(dim=-1)
    torch.testing.assert_close(group_logsumexp(logits, sharpness).double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.usefixtures("_no_compiler")
def test_without_a_compiler_it_is_torch() -> None:
    assert kernels(torch.float32) is None
    q, k, v, keys, values, step, text = inputs("conv", 16, torch.float32)
    expected = decode_attention_in_torch(q, k, v, keys.clone(), values.clone(), step, text)
    torch.testing.assert_close(decode_attention(q, k, v, keys, values, step, text), expected, rtol=0, atol=0)
    logits = torch.randn(2, 3, GROUP_SIZE)
    torch.testing.assert_close(group_logsumexp(logits, torch.ones(2)), logits.logsumexp(-1))


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels_module, "FLAGS", [*kernels_module.FLAGS, "-no-such-flag"])
    kernels.cache_clear()
    assert kernels(torch.float32) is None
    assert list((tmp_path / "t2i").iterdir()) == []
    kernels.cache_clear()
