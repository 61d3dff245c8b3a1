"""Models that compute in another number format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from models.checkpoint import load_model, save_model
from models.dtypes import check_dtype
from models.dvae import DVAE, DVAEConfig
from models.errors import UserError
from models.precision import cast_for_inference

CONFIG = DVAEConfig(width=16, groups=3, codebook_size=32, decoder_input_width=16)


def test_formats_are_two_and_others_are_refused_by_name(tmp_path: Path) -> None:
    check_dtype("float32")
    check_dtype("bfloat16")
    with pytest.raises(UserError, match=r"^dtype is 'float16': use float32 or bfloat16\.$"):
        load_model(DVAE, DVAEConfig, tmp_path, dtype="float16")


def test_a_model_that_spares_no_layer_is_cast_wholly() -> None:
    model = cast_for_inference(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_dvae_is_loaded_in_bfloat16_but_for_what_the_paper_keeps_in_float32(tmp_path: Path) -> None:
    model = load_model(DVAE, DVAEConfig, save_model(tmp_path, DVAE(CONFIG)), dtype="bfloat16")
    exact = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32}
    assert exact == {f"{layer}.{kind}" for layer in ("encoder.logits", "decoder.input") for kind in ("weight", "bias")}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32, torch.bfloat16}
    assert not model.training
