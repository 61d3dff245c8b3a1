"""Layers laid out for decoding on a CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from models.errors import UserError
from models.prior import Prior, PriorConfig, text_tensor
from models.prior.decoding.packed import Int8Linear, PackedLinear, pack

CONFIG = PriorConfig(2, 2, 64, text_length=6, text_vocabulary=50, grid_height=4, grid_width=4, codebook_size=64)
amx_or_avx512 = pytest.mark.skipif(not PackedLinear.is_supported(), reason="this CPU does not multiply bf16")


@amx_or_avx512
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_packed_is_plain_to_the_bit(gelu: bool, bias: bool) -> None:
    layer = nn.Linear(96, 160, bias=bias).bfloat16()
    x = torch.randn(7, 1, 96).bfloat16()
    expected = layer(x)
    if gelu:  # fused, it rounds once where the two operations round twice
        expected = nn.functional.gelu(expected.float(), approximate="tanh").bfloat16()
        torch.testing.assert_close(PackedLinear(layer, gelu)(x), expected, rtol=0.02, atol=0.01)
    else:
        assert torch.equal(PackedLinear(layer, gelu)(x), expected)


@torch.inference_mode()
def test_int8_is_within_its_step() -> None:
    layer = nn.Linear(128, 64).bfloat16()
    x = torch.randn(3, 1, 128).bfloat16()
    step = layer.weight.float().abs().amax(dim=1) / 127
    bound = 0.5 * step * x.float().abs().sum(dim=-1) + 0.03
    assert ((Int8Linear(layer)(x).float() - layer(x).float()).abs() <= bound).all()


def test_pack_replaces_every_layer_and_the_gelu_after_it() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU(approximate="tanh"), nn.Sequential(nn.Linear(8, 4))).bfloat16()
    pack(model, Int8Linear)
    assert [type(module) for module in model] == [Int8Linear, nn.Identity, nn.Sequential]
    assert model[0].gelu
    assert not model.get_submodule("2.0").gelu


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("bfloat16", 0.03), ("int8", 0.06)])
@torch.inference_mode()
def test_for_inference_stays_near_the_model(dtype: str, tolerance: float) -> None:
    prior = Prior(CONFIG).eval()
    stream = prior.layout.inputs(text_tensor([[1, 2], [3]], prior.layout), torch.randint(64, (2, 16)))
    expected = prior.image_logits(prior(stream)).softmax(-1)
    found = copy.deepcopy(prior).for_inference(dtype)
    logits = found.image_logits(found(stream))
    torch.testing.assert_close(logits.float().softmax(-1), expected, rtol=tolerance, atol=tolerance / 10)


def test_int8_is_for_cpus() -> None:
    with torch.device("meta"):
        prior = Prior(CONFIG)
    with pytest.raises(UserError, match="dtype is int8: use bfloat16"):
        prior.for_inference("int8")
