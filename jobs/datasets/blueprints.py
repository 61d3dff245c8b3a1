#!/usr/bin/env python
"""Write 220 captioned pictures in a style that no shipped model knows, to try docs/fine_tuning.md with.

    python jobs/datasets/blueprints.py pictures

They are emoji64's Noto drawings (Apache-2.0, Google) as blueprints: the outlines in white on blue. Writes
<folder>/train (200) and <folder>/held_out (20), with for each <number>.png a <number>.txt that says "owl, blueprint".
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

EMOJI = Path(__file__).parent / "emoji64" / "train.parquet"
GROUPS = ("animals-nature", "food-drink", "travel", "activities", "objects")
PAPER, LINE = np.array([[28, 66, 138], [245, 248, 255]], np.float32)
TRAIN, HELD_OUT = 200, 20


def main(folder: Path) -> None:
    """Write every picture with its caption."""
    for number, row in enumerate(chosen(TRAIN + HELD_OUT)):
        part = folder / ("train" if number < TRAIN else "held_out")
        part.mkdir(parents=True, exist_ok=True)
        blueprint(Image.open(io.BytesIO(row["image"]))).save(part / f"{number:03d}.png")
        (part / f"{number:03d}.txt").write_text(f"{row['captions'][1]}, blueprint\n")


def chosen(count: int) -> list[dict[str, Any]]:
    """Return rows of emoji64 in the Noto style, of every kind of thing, shuffled."""
    rows = pq.read_table(EMOJI, filters=[("style", "=", "noto"), ("group", "in", GROUPS)]).to_pylist()
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))[:count]]


def blueprint(image: Image.Image) -> Image.Image:
    """Return a picture's outlines, by how much neighbouring pixels differ in any colour, in white on blue."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    changes = [np.abs(np.gradient(pixels, axis=axis)).max(axis=2) for axis in (0, 1)]
    ink = (np.maximum(*changes) / 60).clip(0, 1)[:, :, None]
    return Image.fromarray((PAPER + ink * (LINE - PAPER)).round().astype(np.uint8))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "pictures"))
