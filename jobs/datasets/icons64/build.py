#!/usr/bin/env python
"""Build icons64: fetch the icon sets, draw the listed icons, write them, and compare them with the list.

    pip install resvg-py
    python jobs/datasets/icons64/build.py

Needs npm and a network (110 MB), 1 GB of disk, and three minutes of two cores. Writes to --out (runs/icons64):

    train/icons64.parquet    drawings to train on
    train/emoji64.parquet    those of emoji64, so that data.train.path=runs/icons64/train is the whole mix
    val.parquet              drawings to validate on; captions_val.json has their captions in COCO's layout
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icons64.candidates import Candidate, Catalog
from icons64.heldout import EMOJI64, HeldOut
from icons64.library import Library
from icons64.listing import Listed, counts, differences, read_list
from icons64.packages import EMOJIBASE, ICONS, unpacked
from icons64.rows import pixel_hash, rows, write_parquet
from icons64.sets import licenses, styles
from pictograms.coco import coco
from pictograms.emojibase import Emojibase


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/icons64"), help="folder for the set")
    parser.add_argument("--packages", type=Path, help="folder for the npm packages; by default <out>/packages")
    arguments = parser.parse_args()
    listed = read_list()
    library, catalog = open_packages(arguments.packages or arguments.out / "packages")
    candidates = [candidate for candidate in catalog.all() if candidate.id in listed]
    made = write_set(candidates, library, listed, arguments.out)
    print(f"{arguments.out}: {', '.join(f'{part} {count}' for part, count in sorted(counts(listed).items()))}")
    print("\n".join(differences(listed, made)) or "Every drawing has the listed pixels.")


def open_packages(folder: Path) -> tuple[Library, Catalog]:
    """Return the icon sets and what is known of their icons; fetch what is not in ``folder`` yet."""
    library = Library(unpacked(ICONS, folder))
    return library, Catalog(library, Emojibase(unpacked(EMOJIBASE, folder)), HeldOut.of_emoji64(), styles())


def write_set(candidates: list[Candidate], library: Library, listed: dict[str, Listed], out: Path) -> dict[str, bytes]:
    """Draw the candidates and write both parts; return id -> hash of the pixels."""
    made: dict[str, bytes] = {}
    held_out: list[dict[str, Any]] = []

    def training_rows() -> Iterator[dict[str, Any]]:
        for row in rows(candidates, library):
            made[row["id"]] = pixel_hash(row["image"])
            if listed[row["id"]].split == "train":
                yield row
            else:
                held_out.append(row)

    write_parquet(training_rows(), out / "train" / "icons64.parquet")
    write_parquet(held_out, out / "val.parquet")
    (out / "captions_val.json").write_text(json.dumps(coco(held_out, "icons64 val", licenses())))
    shutil.copyfile(EMOJI64 / "train.parquet", out / "train" / "emoji64.parquet")
    return made


if __name__ == "__main__":
    main()
