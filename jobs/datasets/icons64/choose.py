#!/usr/bin/env python
"""Choose anew what icons64 consists of. Building the set does not need this: it draws what was chosen.

    pip install resvg-py
    python jobs/datasets/icons64/choose.py

Draws all that is worth it (<out>/candidates), lets prepare_pairs.py drop copies of each other and of emoji64's pictures
(<out>/curated), holds some out to validate on, and writes list.parquet, ATTRIBUTION.md and report.json beside this
script. Needs npm and a network, and half an hour of two cores; what is there already is not made again.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

import argparse
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from icons64.attribution import write_attribution
from icons64.build import open_packages
from icons64.heldout import EMOJI64
from icons64.listing import Listed, write_list
from icons64.packages import WORDNET, unpacked
from icons64.rows import pixel_hash, rows, write_parquet
from icons64.sets import styles
from icons64.split import Drawn, outline, validation_ids
from icons64.wordnet import WordNet
from icons64.worth import Worth

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
KEEP_CAPTIONS = (
    "captions.english=false",
    "captions.min_words=1",
    "captions.min_letters=1",
    "captions.max_repeats=null",
)
"""The rules for what people write do not fit captions that are made of names."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/icons64"), help="folder for all that is made")
    parser.add_argument("--packages", type=Path, help="folder for the npm packages; by default <out>/packages")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    packages: Path = arguments.packages or out / "packages"
    if not (out / "candidates" / "candidates.parquet").exists():
        draw(out, packages)
    curate(out)
    make_list(out, packages)


def draw(out: Path, packages: Path) -> None:
    """Draw everything that is worth it."""
    library, catalog = open_packages(packages)
    chosen = Worth(library, WordNet(unpacked(WORDNET, packages))).chosen(catalog.all())
    count = write_parquet(rows(chosen, library), out / "candidates" / "candidates.parquet")
    print(f"{out}/candidates: {count} drawings", flush=True)


def curate(out: Path) -> None:
    """Drop copies, of emoji64's training pictures, too: they are in the mix already."""
    sets = [f"{{name: {split}, source: {{path: {EMOJI64}/{split}.parquet}}}}" for split in ("train", "val", "test")]
    words = [
        f"source.path={out}/candidates",
        f"out={out}/curated",
        f"clip.model={ROOT}/models/trained/small/clip/model",
        f"overlap.sets=[{', '.join(sets)}]",
        *KEEP_CAPTIONS,
    ]
    subprocess.run([sys.executable, ROOT / "jobs" / "prepare_pairs.py", *words], check=True)
    report = (out / "curated" / "report.json").read_text()
    (HERE / "report.json").write_text(report.replace(f"{out}/", ""))


def make_list(out: Path, packages: Path) -> None:
    """Write the list of what curation has kept, and who made it."""
    dropped = set(pq.read_table(out / "curated" / "dropped.parquet", columns=["id"])["id"].to_pylist())
    candidates = pq.read_table(out / "candidates", columns=["id", "image", "style", "concept"]).to_pylist()
    table = [row for row in candidates if row["id"] not in dropped]
    drawn = [Drawn(row["id"], row["style"], row["concept"], outline(pixels(row["image"]))) for row in table]
    held_out = validation_ids(drawn)
    listed = [Listed(r["id"], "val" if r["id"] in held_out else "train", pixel_hash(r["image"])) for r in table]
    write_list(listed)
    used = {row["style"] for row in table}
    write_attribution(open_packages(packages)[0], [style for style in styles() if style.style in used])
    print(f"list.parquet: {len(listed)} drawings, {len(held_out)} of them to validate on")


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


if __name__ == "__main__":
    main()
