"""Candidates as rows of the set: drawn, captioned, encoded; on all cores."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from icons64.candidates import Candidate
from icons64.captions import colour_captions, one_colour_captions
from icons64.colours import PALETTE, main_colour
from icons64.library import Library
from icons64.packages import ICONS
from pictograms.picture import draw, picture, webp

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "image": pa.binary(),
        "captions": pa.list_(pa.string()),
        "concept": pa.string(),
        "style": pa.string(),
        "group": pa.string(),
        "license": pa.string(),
        "source": pa.string(),
    }
)
"""The columns of emoji64."""
INK = "#333333"
"""What the parts without a colour are drawn in, where the others have one."""
EFFORT = 4
ROWS_PER_GROUP = 1024


@dataclass(frozen=True)
class Task:
    """A candidate with its SVG, to be sent to a worker."""

    candidate: Candidate
    svg: str


def rows(candidates: list[Candidate], library: Library) -> Iterator[dict[str, Any]]:
    """Yield the row of each candidate in their order, without those that draw nothing; shows how far it is."""
    tasks = (Task(candidate, svg_of(candidate, library)) for candidate in candidates)
    with Pool(os.cpu_count()) as pool:
        drawn = pool.imap(make_row, tasks, chunksize=64)
        yield from (row for row in tqdm(drawn, "drawing", len(candidates), unit=" images") if row is not None)


def svg_of(candidate: Candidate, library: Library) -> str:
    """Return a candidate as SVG in its colour."""
    return library.icon_set(candidate.style.set).svg(candidate.icon, PALETTE.get(candidate.colour, INK))


def make_row(task: Task) -> dict[str, Any] | None:
    """Return a candidate's row; None if nothing is drawn."""
    candidate = task.candidate
    try:
        image = picture(draw(task.svg))
    except ValueError:
        return None
    return {
        "id": candidate.id,
        "image": webp(image, EFFORT),
        "captions": captions_of(candidate, image),
        "concept": candidate.concept,
        "style": candidate.style.style,
        "group": candidate.group,
        "license": candidate.style.license,
        "source": f"npm:{ICONS}",
    }


def captions_of(candidate: Candidate, image: Image.Image) -> list[str]:
    """Return the captions of a drawing."""
    style = candidate.style
    words = candidate.phrase, style.phrase, style.look, candidate.others, candidate.keywords
    if candidate.colour:
        return one_colour_captions(candidate.colour, *words)
    main = "" if candidate.group in ("people", "flags") else main_colour(image)
    return colour_captions(main, *words)


def pixel_hash(file: bytes) -> bytes:
    """Return 16 bytes of the SHA-256 of the pixels in an image file, which do not depend on how it was compressed."""
    return sha256(Image.open(io.BytesIO(file)).convert("RGB").tobytes()).digest()[:16]


def write_parquet(found: Iterable[dict[str, Any]], file: Path) -> int:
    """Write rows to a Parquet file, which is there only once it is whole; return how many they are."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    rows_left, count = iter(found), 0
    with pq.ParquetWriter(unfinished, SCHEMA) as writer:
        while batch := list(itertools.islice(rows_left, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
            count += len(batch)
    unfinished.rename(file)
    return count
