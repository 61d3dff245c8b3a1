"""Rebuild emoji64 from the npm packages it was made of, and compare it with the files beside this script.

    pip install resvg-py
    python jobs/datasets/emoji64/build.py --out DIR

Needs npm and a network. Which rows there are, and in which split, is defined by the ids in the files beside this
script; pictures and captions are made anew. Prints how many of them are identical.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

import argparse
import io
import json
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pictograms.coco import coco
from pictograms.emojibase import GROUPS, PACKAGE, Emojibase, clean, concept, keywords, slug
from pictograms.iconify import IconSet
from pictograms.picture import draw, picture, webp

HERE = Path(__file__).parent
SPLITS = ("train", "val", "test")
LICENSES = ("Apache-2.0", "MIT", "CC-BY-4.0")


@dataclass(frozen=True)
class Style:
    """One way of drawing: its package, licence, and how captions name it."""

    name: str
    package: str
    license: str
    phrase: str


STYLES = (
    Style("noto", "@iconify-json/noto@1.2.9", "Apache-2.0", "Noto emoji style"),
    Style("noto-v1", "@iconify-json/noto-v1@1.2.5", "Apache-2.0", "blob style"),
    Style("twemoji", "@iconify-json/twemoji@1.2.5", "CC-BY-4.0", "Twemoji flat style"),
    Style("fluent-flat", "@iconify-json/fluent-emoji-flat@1.2.6", "MIT", "Fluent flat style"),
    Style("fluent-3d", "@lobehub/fluent-emoji-3d@1.1.0", "MIT", "3D render"),
)


class Packages:
    """The unpacked npm packages."""

    def __init__(self, folder: Path) -> None:
        names = [style.package for style in STYLES] + [PACKAGE]
        subprocess.run(["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", *names], check=True)
        self._root = folder / "node_modules"

    def folder(self, package: str) -> Path:
        return self._root / package.rpartition("@")[0]

    def read(self, package: str, file: str) -> Any:
        return json.loads((self.folder(package) / file).read_text())

    @cached_property
    def emoji(self) -> Emojibase:
        return Emojibase(self.folder(PACKAGE))


class Icons:
    """An icon set of Iconify's: concept -> (its name there, SVG)."""

    def __init__(self, packages: Packages, package: str) -> None:
        self._set = IconSet(packages.read(package, "icons.json"))
        characters = packages.read(package, "chars.json")
        self._names = {concept(code): name for code, name in characters.items()}

    def draw(self, code: str, label: str) -> tuple[str, Image.Image]:
        candidates = (self._names.get(code, ""), slug(label), f"flag-for-{slug(label)}")
        name = next(filter(None, map(self._set.resolve, candidates)))
        return name, draw(self._set.svg(name))


class Renders:
    """The 3-D pictures, named by code points."""

    def __init__(self, packages: Packages, package: str) -> None:
        files = sorted((packages.folder(package) / "assets").glob("*.webp"), reverse=True)
        self._files = {concept(file.stem): file for file in files}

    def draw(self, code: str, label: str) -> tuple[str, Image.Image]:
        return slug(label), Image.open(self._files[code])


def captions(entry: dict[str, Any], phrase: str, icon_name: str) -> list[str]:
    """Return an emoji's captions: label with style, label, another name if there is one, keywords."""
    label, british = clean(entry["label"]), clean(entry["british"])
    texts = [f"{label}, {phrase}", label]
    if icon_name.removeprefix("flag-for-") != slug(entry["label"]):
        texts.append(icon_name.replace("-", " "))
    elif british.lower() != label.lower():
        texts.append(british)
    words = keywords(entry)
    return texts + ([", ".join(words[:6])] if words else [])


def make_row(shipped: dict[str, Any], packages: Packages, artists: dict[str, Icons | Renders]) -> dict[str, Any]:
    style = next(style for style in STYLES if style.name == shipped["style"])
    entry = packages.emoji.entries[shipped["concept"]]
    icon_name, drawing = artists[style.name].draw(shipped["concept"], entry["label"])
    return {
        "id": f"{style.name}/{shipped['concept']}",
        "image": webp(picture(drawing)),
        "captions": captions(entry, style.phrase, icon_name),
        "concept": shipped["concept"],
        "style": style.name,
        "group": GROUPS[entry["group"]],
        "license": style.license,
        "source": f"npm:{style.package}",
    }


def compare(shipped: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """Return a line that says how many rows have the shipped pixels, and how many the shipped value of each field."""
    pairs = list(zip(shipped, rows, strict=True))
    same_pixels = sum(np.array_equal(pixels(a), pixels(b)) for a, b in pairs)
    same = {name: sum(a[name] == b[name] for a, b in pairs) for name in rows[0]}
    return f"{len(rows)} rows, as shipped: pixels {same_pixels}, {', '.join(f'{k} {v}' for k, v in same.items())}"


def pixels(row: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the rebuilt files")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        packages = Packages(Path(folder))
        artists: dict[str, Icons | Renders] = {s.name: Icons(packages, s.package) for s in STYLES[:-1]}
        artists[STYLES[-1].name] = Renders(packages, STYLES[-1].package)
        for split in SPLITS:
            table = pq.read_table(HERE / f"{split}.parquet")
            shipped = table.to_pylist()
            with ThreadPoolExecutor() as pool:
                rows = list(pool.map(partial(make_row, packages=packages, artists=artists), shipped))
            pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), out / f"{split}.parquet")
            if split != "train":
                (out / f"captions_{split}.json").write_text(json.dumps(coco(rows, f"emoji64 {split}", LICENSES)))
            print(f"{split}: {compare(shipped, rows)}", flush=True)


if __name__ == "__main__":
    main()
