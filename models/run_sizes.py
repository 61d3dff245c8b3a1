"""What a run draws, read from the configurations of its own models, so that nobody has to say it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoint import CONFIG, load_config_file
from models.dvae import DVAEConfig
from models.errors import UserError
from models.manifest import complete_manifests
from models.prior import PriorConfig
from models.run_layout import RunLayout


@dataclass(frozen=True)
class RunSizes:
    """The ``grid`` (h, w) of image tokens that a run's prior draws, and the ``image_size`` (H, W) in px of its dVAE."""

    grid: tuple[int, int]
    image_size: tuple[int, int]

    @property
    def side(self) -> int:
        """Side of the run's images in pixels.

        Raises:
            UserError: they are not square.
        """
        height, width = self.image_size
        if height != width:
            raise UserError(
                f"run draws images of {height} x {width} px, and only squares are compared with other images: "
                "set images=false, or name another run."
            )
        return height


def run_sizes(run: str | Path) -> RunSizes:
    """Return the sizes of a local run's images.

    Raises:
        CheckpointError: there is no dVAE or no prior.
        UserError: the prior draws tokens of another codebook than the dVAE's.
    """
    layout = RunLayout(run)
    dvae: DVAEConfig = _config(layout.dvae, DVAEConfig)
    prior: PriorConfig = _config(layout.prior, PriorConfig)
    if prior.codebook_size != dvae.codebook_size:
        raise UserError(
            f"run is {str(run)!r}: its prior draws tokens of {prior.codebook_size} codes and its dVAE has "
            f"{dvae.codebook_size}, so name a run whose prior was trained with its dVAE."
        )
    height, width = prior.grid_height, prior.grid_width
    return RunSizes((height, width), (height * dvae.downsample, width * dvae.downsample))


def _config(directory: str, config_cls: type) -> Any:
    names = [file.name for file in Path(directory).iterdir()] if Path(directory).is_dir() else []
    complete_manifests(names, directory)
    return load_config_file(Path(directory) / CONFIG, config_cls)
