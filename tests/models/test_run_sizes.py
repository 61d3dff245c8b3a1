from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from models.errors import UserError
from models.manifest import CheckpointError
from models.run_sizes import RunSizes, run_sizes


def with_prior(run: Path, to: Path, **changes: Any) -> Path:
    """A copy of a run whose prior's configuration has other values."""
    shutil.copytree(run, to)
    file = to / "prior/model/config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), changes), file)
    return to


def test_the_models_of_a_run_know_its_sizes(tiny_run: Path) -> None:
    assert run_sizes(tiny_run) == RunSizes(grid=(8, 8), image_size=(32, 32))
    assert run_sizes(tiny_run).side == 32


def test_a_prior_of_another_dvae_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its prior draws tokens of 64 codes and its dVAE has 32"):
        run_sizes(with_prior(tiny_run, tmp_path / "run", codebook_size=64))


def test_a_run_without_models_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"dvae/model is not a complete checkpoint: it has no manifest\.json"):
        run_sizes(tmp_path)


def test_images_that_are_not_square_have_no_side(tiny_run: Path, tmp_path: Path) -> None:
    sizes = run_sizes(with_prior(tiny_run, tmp_path / "run", grid_width=4))
    assert sizes.image_size == (32, 16)
    with pytest.raises(UserError, match=r"draws images of 32 x 16 px.*set images=false"):
        _ = sizes.side
