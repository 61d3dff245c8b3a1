"""The same few captioned images in every format."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

Row = dict[str, Any]


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def rows() -> list[Row]:
    """Six rows, as every reader must give them; the ids are paths, as WebDataset's keys may be."""
    return [
        {"id": f"animals/{i:03}", "image": _png(i), "captions": [f"animal {i}", f"the {i}th animal"][: 1 + i % 2]}
        for i in range(6)
    ]


def write_parquet(rows: list[Row], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(2):
        pq.write_table(pa.Table.from_pylist(rows[part * 3 : part * 3 + 3]), folder / f"part-{part}.parquet")
    return folder


def write_images(rows: list[Row], folder: Path) -> None:
    for row in rows:
        file = folder / f"{row['id']}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row["image"])


def write_coco(rows: list[Row], folder: Path) -> Path:
    """The official layout: annotations/captions_val2017.json beside val2017/."""
    write_images(rows, folder / "val2017")
    images = [{"id": 100 - i, "file_name": f"{row['id']}.png"} for i, row in enumerate(rows)]
    annotations = [
        {"id": i, "image_id": 100 - i, "caption": text} for i, row in enumerate(rows) for text in row["captions"]
    ]
    path = folder / "annotations" / "captions_val2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def write_karpathy(rows: list[Row], folder: Path) -> Path:
    """dataset_coco.json whose split ``test`` is ``rows``; one image more belongs to ``train``."""
    write_images(rows, folder)
    images: list[Row] = [
        {
            "filepath": "animals",
            "filename": f"{Path(row['id']).name}.png",
            "split": "test",
            "sentences": [{"raw": f" {text} "} for text in row["captions"]],
        }
        for row in rows
    ]
    images.append({"filepath": "x", "filename": "x.png", "split": "restval", "sentences": [{"raw": "x"}]})
    path = folder / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    return path


def write_webdataset(rows: list[Row], folder: Path) -> Path:
    """Two shards; captions as lines of .txt in the first, as .json in the second."""
    folder.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for row in rows[shard * 3 : shard * 3 + 3]:
                text, suffix = "\n".join(row["captions"]), "txt"
                if shard:
                    text, suffix = json.dumps({"captions": row["captions"]}), "json"
                for name, data in ((f"{row['id']}.png", row["image"]), (f"{row['id']}.{suffix}", text.encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return folder


@pytest.fixture
def write() -> dict[str, Callable[[list[Row], Path], Path]]:
    """Writers by format; each returns the path a source names."""
    return {
        "parquet": write_parquet,
        "coco": write_coco,
        "karpathy": write_karpathy,
        "webdataset": write_webdataset,
    }
