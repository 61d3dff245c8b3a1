"""Curves and pictures for TensorBoard, and the pictures as PNG files too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from models.images import to_uint8


class TensorBoardTracker:
    """Writes ``logs/`` and ``pictures/`` under a local directory: the tracker that every run has."""

    def __init__(self, directory: Path, step: int) -> None:
        """Go on after ``step`` updates: TensorBoard hides what a killed process logged beyond them."""
        from torch.utils.tensorboard import SummaryWriter  # takes seconds, which only the first worker has to spend

        self._pictures = directory / "pictures"
        self._pictures.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(directory / "logs", purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add scalars by name, such as ``train/loss``."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def scales(self, step: int, scales: Mapping[str, float]) -> None:
        """Add the gradient scale of every block, ``scale/blocks.7.add_mlp``, and a histogram of log2 of them all.

        The paper's prior has 128 of them, too many for every line of the log: call this at validations.
        """
        if scales:
            self.log(step, scales)
            self._writer.add_histogram("scale_log2", np.log2(list(scales.values())), step, bins=24)

    def note(self, step: int, sentence: str) -> None:
        """Add a sentence of advice."""
        self._writer.add_text("advice", sentence, step)

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Add pictures float [3, H, W] in [0, 1]."""
        for name, picture in pictures.items():
            pixels = to_pixels(picture)
            self._writer.add_image(name, pixels, step, dataformats="HWC")
            Image.fromarray(pixels).save(self._pictures / picture_file(name, step))

    def flush(self) -> None:
        """Write everything to disk."""
        self._writer.flush()

    def finish(self) -> None:
        """Close the files; nothing may be added afterwards."""
        self._writer.close()


def to_pixels(picture: Tensor) -> np.ndarray:
    """Return a picture float [3, H, W] in [0, 1] as uint8 [H, W, 3]."""
    pixels: np.ndarray = to_uint8(picture[None])[0]
    return pixels


def picture_file(name: str, step: int) -> str:
    """Return a file name; the names of one picture sort in the order of their steps."""
    return f"{name}_{step:07d}.png"
