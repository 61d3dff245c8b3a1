"""Writes a run's curves and pictures for TensorBoard, and the pictures also as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from models.images import to_uint8


class TensorBoardTracker:
    """Writes ``logs/`` and ``pictures/`` in a local directory. Every run has it; other trackers are optional."""

    def __init__(self, directory: Path, step: int) -> None:
        """Continue the curves after ``step`` updates; TensorBoard hides what a killed process logged for later ones."""
        from torch.utils.tensorboard import SummaryWriter  # takes seconds, which only the first worker has to spend

        self._pictures = directory / "pictures"
        self._pictures.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(directory / "logs", purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the scalars of a step: name, such as ``train/loss`` -> value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def scales(self, step: int, scales: Mapping[str, float]) -> None:
        """Add every block's gradient scale by name (``scale/blocks.7.add_mlp``), and a histogram of their log2.

        The paper's prior has 128 scales, too many to write as often as the loss: call this at validations only.
        """
        if scales:
            self.log(step, scales)
            self._writer.add_histogram("scale_log2", np.log2(list(scales.values())), step, bins=24)

    def note(self, step: int, sentence: str) -> None:
        """Add a sentence of advice (see :mod:`t2i.train.monitor.advice`)."""
        self._writer.add_text("advice", sentence, step)

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Add pictures float [3, H, W] in [0, 1] by name, and save each as a PNG file."""
        for name, picture in pictures.items():
            pixels = to_pixels(picture)
            self._writer.add_image(name, pixels, step, dataformats="HWC")
            Image.fromarray(pixels).save(self._pictures / picture_file(name, step))

    def flush(self) -> None:
        """Write to disk what the TensorBoard writer still holds in memory."""
        self._writer.flush()

    def finish(self) -> None:
        """Close the files; nothing may be added afterwards."""
        self._writer.close()


def to_pixels(picture: Tensor) -> np.ndarray:
    """Return a picture float [3, H, W] in [0, 1] as uint8 [H, W, 3]."""
    pixels: np.ndarray = to_uint8(picture[None])[0]
    return pixels


def picture_file(name: str, step: int) -> str:
    """Return a picture's file name; the step has leading zeros, so that names sort by step."""
    return f"{name}_{step:07d}.png"
