"""Compare the pixels of stored images with the hashes that were taken when they were measured; no model is needed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow.parquet as pq

from t2i.evaluate.candidates import candidates_folder, from_png, read_caption, read_images
from t2i.evaluate.features import hash_images
from t2i.evaluate.receipts.files import STORED
from t2i.evaluate.receipts.findings import Finding
from t2i.evaluate.receipts.stored import Receipt, StoredSet
from t2i.evaluate.shards import ShardFolder
from t2i.storage import DataError, read_file


def check_pixels(stored: StoredSet, receipt: Receipt) -> Iterator[Finding]:
    """Yield for each stored image whose pixels have another hash than when it was measured; no model is needed.

    One more finding stands for all images that are equal.
    """
    for name in (name for name in STORED if name in stored.images):
        images = stored.images[name]
        folder = f"{images.layout.images(name)}/".removeprefix(f"{receipt.root}/")
        files = [f"{receipt.root}/{file}" for file in receipt.files if file.startswith(folder)]
        hashes = dict(zip(images.ids, images.hashes, strict=True))
        yield from _pixel_findings(f"{stored.name}: image", name, hashes, map(_stored_pngs, files))
    best = stored.images["best"]
    candidates = candidates_folder(stored.layout.candidates)
    shards = (_kept_images(candidates, shard) for shard in range(best.folder.shards))
    hashes = dict(zip(best.ids, best.hashes, strict=True))
    yield from _pixel_findings(f"{stored.name}: image", "best", hashes, shards)


def _pixel_findings(
    title: str, name: str, hashes: Mapping[str, np.ndarray], parts: Iterator[dict[str, np.ndarray]]
) -> Iterator[Finding]:
    equal = 0
    try:
        for images in parts:
            for image_id, pixels in images.items():
                if image_id in hashes and np.array_equal(hash_images(pixels[None])[0], hashes[image_id]):
                    equal += 1
                else:
                    yield Finding(f"{title} {image_id} of {name}", "has other pixels than when it was measured")
    except (DataError, OSError, ValueError) as error:
        yield Finding(f"{title}s of {name}", f"cannot be read ({error})")
    if equal:
        yield Finding(f"{title}s of {name}, {equal} stored ones")


def _stored_pngs(file: str) -> dict[str, np.ndarray]:
    table = pq.read_table(io.BytesIO(read_file(file)))
    return {row["id"]: from_png(row["image"]) for row in table.to_pylist()}


def _kept_images(folder: ShardFolder, shard: int) -> dict[str, np.ndarray]:
    """Return the best image of each caption of a shard by the caption's id; none of a shard that keeps no pixels."""
    file = pq.ParquetFile(io.BytesIO(read_file(folder.path(shard))))
    found = {}
    for index in range(file.num_row_groups):
        candidates, images = read_caption(file, index), read_images(file, index)
        best = int(candidates.numbers[candidates.order[0]])
        if best in images:
            found[candidates.item.id] = images[best]
    return found
