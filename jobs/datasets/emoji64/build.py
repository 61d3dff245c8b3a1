"""Rebuild emoji64 from the npm packages it was made of, and compare it with the files beside this script.

    pip install resvg-py
    python jobs/datasets/emoji64/build.py --out DIR

Needs npm and a network. Which rows there are, and in which split, is defined by the ids in the files beside this
script; pictures and captions are made anew. Prints how many of them are identical.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import tempfile
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import resvg_py
from PIL import Image

HERE = Path(__file__).parent
SPLITS = ("train", "val", "test")
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
SIZE, MARGIN = 64, 2
FAINT = 8  # alpha up to which a pixel does not count as part of the drawing
LICENSES = ("Apache-2.0", "MIT", "CC-BY-4.0")
TEXT = "emojibase-data@17.0.0"
GROUPS = [
    "smileys",
    "people",
    "component",
    "animals-nature",
    "food-drink",
    "travel",
    "activities",
    "objects",
    "symbols",
    "flags",
]


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
        names = [style.package for style in STYLES] + [TEXT]
        subprocess.run(["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", *names], check=True)
        self._root = folder / "node_modules"

    def folder(self, package: str) -> Path:
        return self._root / package.rpartition("@")[0]

    def read(self, package: str, file: str) -> Any:
        return json.loads((self.folder(package) / file).read_text())

    @cached_property
    def emoji(self) -> dict[str, dict[str, Any]]:
        """Concept -> emojibase entry, with the British label as ``british``."""
        entries, british = (self._flat(f"{language}/data.json") for language in ("en", "en-gb"))
        return {code: entry | {"british": british[code]["label"]} for code, entry in entries.items()}

    def _flat(self, file: str) -> dict[str, dict[str, Any]]:
        entries = self.read(TEXT, file)
        skins = [skin for entry in entries for skin in entry.get("skins", [])]
        return {concept(entry["hexcode"]): entry for entry in entries + skins}


def concept(hexcode: str) -> str:
    """Return code points in lower case without the variation selector."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


class Icons:
    """An icon set of Iconify's: concept -> (its name there, SVG)."""

    def __init__(self, packages: Packages, package: str) -> None:
        self._set = packages.read(package, "icons.json")
        characters = packages.read(package, "chars.json")
        self._names = {concept(code): name for code, name in characters.items()}

    def draw(self, code: str, label: str) -> tuple[str, Image.Image]:
        candidates = (self._names.get(code, ""), slug(label), f"flag-for-{slug(label)}")
        name = next(filter(None, map(self._resolve, candidates)))
        icon = self._set["icons"][name]
        width, height = (icon.get(side, self._set.get(side, 16)) for side in ("width", "height"))
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        svg = f'<svg {NAMESPACES} viewBox="{box}">{icon["body"]}</svg>'
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * SIZE, height=2 * SIZE))
        return name, Image.open(io.BytesIO(png))

    def _resolve(self, name: str) -> str:
        """Return an icon's name after following aliases; empty if there is no such icon."""
        while name in self._set.get("aliases", {}):
            name = self._set["aliases"][name]["parent"]
        return name if name in self._set["icons"] else ""


class Renders:
    """The 3-D pictures, named by code points."""

    def __init__(self, packages: Packages, package: str) -> None:
        files = sorted((packages.folder(package) / "assets").glob("*.webp"), reverse=True)
        self._files = {concept(file.stem): file for file in files}

    def draw(self, code: str, label: str) -> tuple[str, Image.Image]:
        return slug(label), Image.open(self._files[code])


def slug(text: str) -> str:
    """Return a label as icon sets spell it."""
    plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "").replace(".", "").replace("&", "and")).strip("-")


def clean(label: str) -> str:
    """Return a label of CLDR (Unicode's names) as plain English."""
    for typographic, straight in (("“", '"'), ("”", '"'), ("’", "'"), ("flag: ", "flag of "), ("keycap: ", "keycap ")):
        label = label.replace(typographic, straight)
    return label


def captions(entry: dict[str, Any], phrase: str, icon_name: str) -> list[str]:
    """Return an emoji's captions: label with style, label, another name if there is one, keywords."""
    label, british = clean(entry["label"]), clean(entry["british"])
    texts = [f"{label}, {phrase}", label]
    if icon_name.removeprefix("flag-for-") != slug(entry["label"]):
        texts.append(icon_name.replace("-", " "))
    elif british.lower() != label.lower():
        texts.append(british)
    keywords = [tag for tag in entry.get("tags", []) if re.fullmatch(r"\d*[^\W\d][^\d+]+", tag)]
    return texts + ([", ".join(keywords[:6])] if keywords else [])


def picture(drawing: Image.Image) -> Image.Image:
    """Trim a picture, fit it into the square within the margin, and put white behind it."""
    drawing = drawing.convert("RGBA")
    drawing = drawing.crop(drawing.getchannel("A").point(lambda alpha: 255 * (alpha > FAINT)).getbbox())
    scale = (SIZE - 2 * MARGIN) / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    drawing = drawing.resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIZE, SIZE), "white")
    canvas.alpha_composite(drawing, ((SIZE - width) // 2, (SIZE - height) // 2))
    return canvas.convert("RGB")


def make_row(shipped: dict[str, Any], packages: Packages, artists: dict[str, Icons | Renders]) -> dict[str, Any]:
    style = next(style for style in STYLES if style.name == shipped["style"])
    entry = packages.emoji[shipped["concept"]]
    icon_name, drawing = artists[style.name].draw(shipped["concept"], entry["label"])
    file = io.BytesIO()
    picture(drawing).save(file, "WEBP", lossless=True, quality=100, method=6)
    return {
        "id": f"{style.name}/{shipped['concept']}",
        "image": file.getvalue(),
        "captions": captions(entry, style.phrase, icon_name),
        "concept": shipped["concept"],
        "style": style.name,
        "group": GROUPS[entry["group"]],
        "license": style.license,
        "source": f"npm:{style.package}",
    }


def coco(rows: list[dict[str, Any]], split: str) -> dict[str, Any]:
    """Return the captions in COCO's layout."""
    pairs = [(number, text) for number, row in enumerate(rows, start=1) for text in row["captions"]]
    return {
        "info": {"description": f"emoji64 {split}"},
        "licenses": [{"id": number, "name": name} for number, name in enumerate(LICENSES, start=1)],
        "images": [
            {
                "id": number,
                "file_name": f"{row['id']}.webp",
                "width": SIZE,
                "height": SIZE,
                "license": LICENSES.index(row["license"]) + 1,
            }
            for number, row in enumerate(rows, start=1)
        ],
        "annotations": [
            {"id": number, "image_id": image, "caption": text} for number, (image, text) in enumerate(pairs, start=1)
        ],
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
                (out / f"captions_{split}.json").write_text(json.dumps(coco(rows, split)))
            print(f"{split}: {compare(shipped, rows)}", flush=True)


if __name__ == "__main__":
    main()
