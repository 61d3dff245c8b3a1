"""The commands that the documents print, and a folder in which those of jobs run as they are typed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import runpy
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def commands(document: str) -> list[str]:
    """Every command in the ``sh`` blocks of a document of this checkout, comments and continuation lines resolved."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [stripped for line in lines if (stripped := line.split("  #")[0].strip())]


def is_job(command: str) -> bool:
    """Whether a command runs one of this checkout's jobs on this machine."""
    return re.match(r"(\S*/)?python jobs/\w+\.py ", command) is not None


def smaller(arguments: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return a job's arguments with ``words`` added; no key may be given twice, so they take the place of theirs."""
    keys = {word.partition("=")[0] for word in words}
    return [word for word in arguments if word.partition("=")[0] not in keys] + list(words)


def run_job_here(folder: Path, script: str, arguments: Sequence[str]) -> None:
    """Run a job in this process, which shares its Ray, as if it was typed in ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [script, *arguments])
        patch.setattr(os, "nice", lambda _: 0)  # a watcher's priority is for a process of its own
        runpy.run_path(script, run_name="__main__")


def make_workplace(folder: Path) -> Path:
    """Fill a folder, which is returned, with all that jobs' commands name.

    The code and its data, a copy of the shipped models, captioned images of the user's own, and some as COCO has them.
    """
    for name in ("jobs", "deploy"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "models/trained/small", folder / "models/trained/small")
    rows = pq.read_table(ROOT / "jobs/datasets/emoji64/test.parquet")
    pq.write_table(rows.slice(0, 48), folder / "pairs.parquet")
    pq.write_table(rows.slice(48, 24), folder / "held_out.parquet")
    write_coco(folder, rows.slice(72, 64).to_pylist())
    return folder


def write_coco(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write images and captions as COCO's 2014 validation set has them, and a list of (image id, caption)."""
    (folder / "val2014").mkdir()
    (folder / "annotations").mkdir()
    images = [{"id": number, "file_name": f"COCO_val2014_{number:012}.jpg"} for number in range(42, 42 + len(rows))]
    for image, row in zip(images, rows, strict=True):
        Image.open(io.BytesIO(row["image"])).save(folder / "val2014" / str(image["file_name"]))
    pairs = [(image["id"], text) for image, row in zip(images, rows, strict=True) for text in row["captions"]]
    said = [{"id": number, "image_id": of, "caption": text} for number, (of, text) in enumerate(pairs)]
    (folder / "annotations/captions_val2014.json").write_text(json.dumps({"images": images, "annotations": said}))
    with (folder / "ids.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image_id", "caption"), *pairs])
