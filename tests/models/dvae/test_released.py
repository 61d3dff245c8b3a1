"""Files that are not the released ones end in a sentence, and nothing in them is run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from models.dvae.released import ReleasedWeightsError, released_weights, rename


class Malicious:
    """Unpickled carelessly, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save(Malicious(tmp_path / "ran"), tmp_path / "encoder.pkl")
    with pytest.raises(ReleasedWeightsError, match="cannot be read as a released dVAE file"):
        released_weights(tmp_path / "encoder.pkl")
    assert not (tmp_path / "ran").exists()


def test_a_missing_a_foreign_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "state.pkl")
    data = (tmp_path / "state.pkl").read_bytes()
    (tmp_path / "half.pkl").write_bytes(data[: len(data) // 2])
    for name, message in {
        "absent.pkl": "cannot be read",
        "state.pkl": "holds a dict",
        "half.pkl": "cannot be read",
    }.items():
        with pytest.raises(ReleasedWeightsError, match=message):
            released_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("released", "ours"),
    [
        ("encoder.blocks.input.w", "encoder.trunk.0.weight"),
        ("encoder.blocks.group_2.block_1.id_path.b", "encoder.trunk.4.identity.bias"),
        ("encoder.blocks.group_4.block_2.res_path.conv_3.w", "encoder.trunk.11.residual.5.weight"),
        ("decoder.blocks.group_1.block_2.res_path.conv_1.w", "decoder.trunk.1.residual.1.weight"),
        ("decoder.blocks.output.conv.b", "decoder.maps.bias"),
    ],
)
def test_names_of_the_released_parameters(released: str, ours: str) -> None:
    assert rename(released, blocks_per_group=2) == ours
