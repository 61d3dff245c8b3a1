"""The images to compare with, decoded once and kept as PNG in the run's size."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray.data import Dataset
from ray.data.expressions import col

from t2i.config import recorded
from t2i.data import SourceConfig, decode_pairs, find_finished_rows, read_pairs, skip_finished
from t2i.data.part_files import SetDescription, is_whole, parquet_bytes, verify_parts, write_parts
from t2i.data.tensors import column_array
from t2i.evaluate.candidates import from_png, to_png
from t2i.storage import filesystem_for, read_file, write_file

IMAGES = SetDescription("set of images to compare with", "coco_eval.py")
ROWS_PER_PART = 256
JPEG = b"\xff\xd8"
"""How every JPEG file begins."""

PEEKED = 16
"""Images by which it is told how a source is encoded."""

IMAGES_PER_SHARD = 64
"""Images that are measured together."""

ENCODING = "encoding.json"
"""File that says whether the images were JPEG at their source."""

SCHEMA = pa.schema({"id": pa.string(), "image": pa.binary()})


@dataclass(frozen=True)
class ImageStore:
    """Images on disk: their ``ids`` in the order in which they were asked for, and the file of each."""

    ids: list[str]
    files: list[str]

    @property
    def shards(self) -> list[dict[str, Any]]:
        """The images that are measured together, as rows {shard, ids, files}."""
        starts = range(0, len(self.ids), IMAGES_PER_SHARD)
        cuts = [slice(start, start + IMAGES_PER_SHARD) for start in starts]
        return [{"shard": n, "ids": self.ids[cut], "files": self.files[cut]} for n, cut in enumerate(cuts)]

    def among(self, ids: Container[str]) -> ImageStore:
        """Return those of the images that are among ``ids``."""
        places = [place for place, image_id in enumerate(self.ids) if image_id in ids]
        return ImageStore([self.ids[place] for place in places], [self.files[place] for place in places])

    def pixels(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the images uint8 [H, W, 3] among ``ids`` that are stored, by id."""
        files = dict(zip(self.ids, self.files, strict=True))
        found = [image_id for image_id in dict.fromkeys(ids) if image_id in files]
        return _read(found, [files[image_id] for image_id in found])


def store_images(source: SourceConfig, ids: Sequence[str], side: int, uri: str, crop: str = "centre") -> ImageStore:
    """Decode the images of ``source`` with these ids to ``side`` pixels, and store them in the folder ``uri``.

    They need no captions, and become square by ``crop`` (:data:`t2i.data.transforms.CROPS`).

    Images that cannot be used are left out and listed in ``uri``/unreadable. What an earlier, killed run has stored is
    kept. The order and the pixels are the same in any case.

    Raises:
        DataError: the source cannot be read, or none of the images can be used.
    """
    ids_hash = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    metadata = {"source": recorded(source), "side": side, "crop": crop, "ids": ids_hash}
    if not is_whole(uri, IMAGES, metadata):
        finished = find_finished_rows(uri, metadata)
        pairs = read_pairs(source, f"{uri}/unreadable", need_captions=False).filter(expr=col("id").is_in(list(ids)))
        missing, report = skip_finished(pairs, finished), f"{uri}/unreadable"
        decoded = decode_pairs(missing, side, report, crop=crop, need_captions=False)
        images = decoded.map_batches(_as_png, batch_format="pyarrow")
        write_file(*filesystem_for(f"{uri}/{ENCODING}"), json.dumps({"jpeg": _is_jpeg(pairs)}).encode())
        write_parts(
            images, uri, parquet_bytes, ".parquet", rows_per_part=ROWS_PER_PART, metadata=metadata, finished=finished
        )
    return open_images(uri, ids)


def open_images(uri: str, ids: Sequence[str]) -> ImageStore:
    """Return the stored images among ``ids``, in this order.

    Raises:
        DataError: the folder is incomplete or damaged.
    """
    places: dict[str, str] = {}
    for name in verify_parts(uri, IMAGES).files:
        table = pq.read_table(io.BytesIO(read_file(f"{uri}/{name}")), columns=["id"])
        places |= dict.fromkeys(table["id"].to_pylist(), f"{uri}/{name}")
    found = [image_id for image_id in ids if image_id in places]
    return ImageStore(found, [places[image_id] for image_id in found])


def was_jpeg(uri: str) -> bool:
    """Return whether the images stored in the folder ``uri`` were JPEG at their source.

    Raises:
        DataError: nothing was stored there.
    """
    return bool(json.loads(read_file(f"{uri}/{ENCODING}"))["jpeg"])


def _is_jpeg(pairs: Dataset) -> bool:
    """Return whether any of the first images is a JPEG file."""
    return any(bytes(row["image"]).startswith(JPEG) for row in pairs.take(PEEKED))


def load_images(row: dict[str, Any]) -> dict[str, Any]:
    """Replace ``files`` of a shard {shard, ids, files} by ``pixels`` uint8 [n, H, W, 3], in the order of the ids."""
    images = _read(row["ids"], row["files"])
    pixels = np.stack([images[image_id] for image_id in row["ids"]])
    return {name: value for name, value in row.items() if name != "files"} | {"pixels": pixels}


def _read(ids: Sequence[str], files: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the images with these ids from the files in which they are."""
    images: dict[str, np.ndarray] = {}
    for file in dict.fromkeys(files):
        table = pq.read_table(io.BytesIO(read_file(file)), filters=[("id", "in", list(ids))])
        rows = zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True)
        images |= {image_id: from_png(png) for image_id, png in rows}
    return images


def _as_png(table: pa.Table) -> pa.Table:
    """Return rows {id, image} of rows {id, pixels}."""
    images = [to_png(image) for image in column_array(table["pixels"])] if len(table) else []
    return pa.table({"id": table["id"], "image": images}, schema=SCHEMA)
