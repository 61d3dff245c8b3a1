"""Model directories come back as they were, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.checkpoint import copy_model, load_model, load_weights, save_model
from models.dvae import DVAE, DVAEConfig
from models.manifest import CheckpointError, is_complete, model_hash
from models.prior import Prior, PriorConfig

CONFIG = DVAEConfig(width=8, groups=2, codebook_size=16, decoder_input_width=8)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", DVAE(CONFIG))


def test_a_saved_model_comes_back_exactly(tmp_path: Path) -> None:
    model = DVAE(CONFIG)
    loaded = load_model(DVAE, DVAEConfig, save_model(tmp_path / "model", model))
    assert loaded.config == CONFIG
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml"])
def test_a_damaged_or_missing_file_is_refused(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=f"{name} is missing or damaged"):
        load_model(DVAE, DVAEConfig, saved)
    (saved / name).unlink()
    assert not is_complete(saved)


def test_a_directory_without_its_manifest_is_not_a_checkpoint(saved: Path) -> None:
    (saved / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="not a complete checkpoint"):
        load_model(DVAE, DVAEConfig, saved)


def test_another_kind_of_model_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="does not describe a PriorConfig"):
        load_model(Prior, PriorConfig, saved)


def test_the_hash_names_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = model_hash(save_model(tmp_path / "a", DVAE(CONFIG)))
    second = model_hash(save_model(tmp_path / "b", DVAE(CONFIG)))
    assert first != second
    assert len(first) == 12


def test_a_model_starts_from_anothers_rounded_weights_in_its_own_precision(saved: Path, tmp_path: Path) -> None:
    rounded = copy_model(saved, tmp_path / "rounded", torch.bfloat16)
    model, expected = DVAE(CONFIG), load_model(DVAE, DVAEConfig, saved).state_dict()
    load_weights(model, rounded)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name].bfloat16().float())


def test_a_model_starts_from_no_other_sizes(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="does not hold such a DVAE: size mismatch"):
        load_weights(DVAE(DVAEConfig(width=16, groups=2, codebook_size=16, decoder_input_width=8)), saved)
