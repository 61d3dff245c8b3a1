"""One decoding step's attention: in C as in torch, and both as one softmax over everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.prior.decoding import kernels as kernels_module
from models.prior.decoding.decode_attention import (
    decode_attention,
    decode_attention_in_torch,
)
from models.prior.decoding.kernels import kernels
from models.prior.decoding.partial_attention import (
    merge_partials,
    partial_attention,
)
from models.prior.decoding.rings import RingBuffer, RingStep
from models.prior.decoding.shared_text import Caption, SharedText
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


LENGTH = 21
CAPTIONS = [(0,), (1,), (2,)]


def stored_text(width: int, dtype: torch.dtype, rows: int = SLOTS) -> SharedText:
    """Three captions of random keys and values."""
    text = SharedText(1, rows, len(CAPTIONS), HEADS, LENGTH, width, device=torch.device("cpu"), dtype=dtype)
    for caption in CAPTIONS:
        text.layers[0].store(text.allocate(caption), *torch.randn(2, HEADS, LENGTH, width))
    return text


def inputs(kind: Kind, width: int, dtype: torch.dtype, text_dtype: torch.dtype | None = None) -> tuple:
    """Queries, keys and values as a projection leaves them, ring buffers full of earlier tokens, stored text."""
    ring = RingBuffer(kind, GRID, torch.device("cpu"), WINDOW)
    q, k, v = torch.randn(SLOTS, 3, HEADS, 1, width, dtype=dtype).unbind(1)
    keys, values = torch.randn(2, SLOTS, ring.size, HEADS, width, dtype=dtype)
    text = stored_text(width, text_dtype or dtype)
    text.assign({(0,): [0, 3, 2, 5], (2,): [4]})
    return q, k, v, keys, values, ring.step(POSITIONS, OWNERS), text


@pytest.mark.parametrize("kind", ["row", "column", "conv"])
@pytest.mark.parametrize("width", [64, 48, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("rounded", [False, True])
def test_in_c_is_in_torch(kind: Kind, width: int, dtype: torch.dtype, tolerance: float, rounded: bool) -> None:
    text_dtype = torch.int8 if rounded else dtype
    assert kernels(dtype, text_dtype), "no C compiler: the other half of this test would not run"
    q, k, v, keys, values, step, text = inputs(kind, width, dtype, text_dtype)
    rings = [(keys.clone(), values.clone()) for _ in range(2)]
    in_one_pass, reference = (
        decode_attention(q, k, v, *rings[0], step, text, 0),
        decode_attention_in_torch(q, k, v, *rings[1], step, text, 0),
    )
    used = [0, 2, 3, 4, 5]
    torch.testing.assert_close(in_one_pass[used], reference[used], rtol=0, atol=tolerance)
    assert not in_one_pass[1].any(), "a row that nobody uses"
    assert all(torch.equal(a, b) for a, b in zip(*rings, strict=True))


@pytest.mark.parametrize("width", [64, 48, 5])
@pytest.mark.parametrize(
    ("dtype", "text_dtype"),
    [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.int8)],
)
def test_a_row_attends_in_any_company_as_alone(width: int, dtype: torch.dtype, text_dtype: torch.dtype) -> None:
    rows = 23
    q, k, v = torch.randn(rows, 3, HEADS, 1, width, dtype=dtype).unbind(1)
    keys, values = torch.randn(2, rows, 1, HEADS, width, dtype=dtype)
    everyone = torch.arange(rows)
    step, text = RingStep(everyone, everyone[:, None]), stored_text(width, text_dtype, rows)

    def attend(members: dict[Caption, list[int]]) -> Tensor:
        text.assign(members)
        return decode_attention(q, k, v, keys, values, step, text, 0)

    together = attend({(2,): [22, 3, 4], (0,): list(range(5, 22)), (1,): [0, 2]})
    for caption, row in [((2,), 22), ((2,), 4), ((0,), 5), ((0,), 20), ((0,), 21), ((1,), 0)]:
        assert torch.equal(attend({caption: [row]})[row], together[row])
        assert torch.equal(attend({caption: [1, row]})[row], together[row])


@pytest.mark.parametrize("captions", [1, 3])
def test_torch_attends_alike_to_one_caption_and_to_some_of_many(captions: int) -> None:
    text = SharedText(1, 40, captions, HEADS, LENGTH, 8, device=torch.device("cpu"), dtype=torch.float32)
    k, v = torch.randn(2, HEADS, LENGTH, 8)
    text.layers[0].store(text.allocate((0,)), k, v)
    text.assign({(0,): list(range(1, 40))})
    q = torch.randn(40, HEADS, 1, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k.expand(40, -1, -1, -1), v.expand(40, -1, -1, -1))
    torch.testing.assert_close(text.attend(0, q).out[1:], expected[1:])
    whole = torch.compile(text.attend, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(0, q).out[1:], expected[1:])


def test_text_in_8_bits_is_near_and_half_as_large() -> None:
    torch.manual_seed(0)
    exact, rounded = (stored_text(64, dtype) for dtype in (torch.bfloat16, torch.int8))
    k, v = torch.randn(2, HEADS, LENGTH, 64)
    for text in (exact, rounded):
        text.layers[0].store(1, k, v)
    for stored, original in zip(rounded.layers[0].read(torch.tensor([1]), torch.float32), (k, v), strict=True):
        assert (stored[0] - original).abs().max() <= original.abs().max() / 127 / 2
    assert rounded.bytes < 0.56 * exact.bytes


def test_more_captions_than_places_are_refused() -> None:
    text = stored_text(8, torch.float32)
    with pytest.raises(RuntimeError, match="3 captions already"):
        text.allocate((9,))
    text.evict([(1,)])
    assert text.allocate((9,)) == 0


@torch.inference_mode()
def test_compiled_it_is_the_same_operator() -> None:
    q, k, v, keys, values, step, text = inputs("conv", 16, torch.float32)
    compiled_keys, compiled_values = keys.clone(), values.clone()
    expected = decode_attention(q, k, v, keys, values, step, text, 0)
    compiled = torch.compile(decode_attention, fullgraph=True)
    torch.testing.assert_close(compiled(q, k, v, compiled_keys, compiled_values, step, text, 0), expected)
    assert torch.equal(keys, compiled_keys)
    assert torch.equal(values, compiled_values)


def test_two_parts_make_the_whole() -> None:
    q, k, v = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 11, 8), torch.randn(2, 3, 11, 8)
    bias = torch.zeros(2, 1, 1, 6).masked_fill(torch.rand(2, 1, 1, 6) < 0.3, -torch.inf)
    expected = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=torch.cat([torch.zeros(2, 1, 1, 5), bias], -1)
    )
    first = partial_attention(q, k[:, :, :5], v[:, :, :5])
    merged = merge_partials(first, partial_attention(q, k[:, :, 5:], v[:, :, 5:], bias))
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
    expected = decode_attention_in_torch(q, k, v, keys.clone(), values.clone(), step, text, 0)
    assert torch.equal(decode_attention(q, k, v, keys, values, step, text, 0), expected)
    logits = torch.randn(2, 3, GROUP_SIZE)
    torch.testing.assert_close(group_logsumexp(logits, torch.ones(2)), logits.logsumexp(-1))


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels_module, "FLAGS", [*kernels_module.FLAGS, "-no-such-flag"])
    kernels.cache_clear()
    assert kernels(torch.float32) is None
    assert list((tmp_path / "t2i").iterdir()) == []
    kernels.cache_clear()
