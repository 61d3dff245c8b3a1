"""TensorBoard scalars and pictures, and the pictures once more as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from torch import Tensor


class Recorder:
    """Writes ``logs/`` and ``pictures/`` under a local directory."""

    def __init__(self, directory: Path, step: int) -> None:
        """Go on after ``step``: what a killed process logged beyond it is hidden."""
        from torch.utils.tensorboard import SummaryWriter  # takes seconds, which only the first worker has to spend

        self._pictures = directory / "pictures"
        self._pictures.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(directory / "logs", purge_step=step + 1)

    def scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Add ``group/name`` for every value."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Add pictures float [3, H, W] in [0, 1]."""
        for name, picture in pictures.items():
            pixels = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
            self._writer.add_image(name, pixels, step, dataformats="HWC")
            Image.fromarray(pixels).save(self._pictures / f"{name}_{step:07d}.png")

    def flush(self) -> None:
        """Have everything on disk."""
        self._writer.flush()
