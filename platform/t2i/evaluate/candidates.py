"""The drawn candidates on disk: a Parquet file for each shard, with a row group a caption and a row a candidate."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from t2i.evaluate.shards import ShardFolder
from t2i.evaluate.work_list import WorkItem

SCHEMA = pa.schema(
    {
        "id": pa.string(),  # of the caption
        "caption": pa.string(),
        "image_id": pa.string(),  # of the image that it describes; empty if there is none
        "candidate": pa.int32(),  # 0 is the first that was drawn
        "seed": pa.int64(),
        "truncated": pa.bool_(),  # the caption was too long for the prior
        "image_tokens": pa.list_(pa.int32()),
        "score": pa.float32(),  # CLIP cosine
        "rank": pa.int32(),  # 0 is the best of its caption
        "image": pa.binary(),  # PNG; null where it was not kept: the tokens decode to it again
    }
)


@dataclass(frozen=True)
class CaptionCandidates:
    """All candidates of one caption, in the order in which they were drawn, and their scores.

    Attributes:
        item: the caption.
        truncated: whether it was too long for the prior.
        numbers: int [n] ascending, the candidates' numbers; some are missing if pruning stopped them.
        image_tokens: int [n, N].
        scores: float32 [n], CLIP cosines.
    """

    item: WorkItem
    truncated: bool
    numbers: np.ndarray
    image_tokens: np.ndarray
    scores: np.ndarray

    @property
    def order(self) -> np.ndarray:
        """Places of the candidates from best to worst, int [n]; equal scores keep their order."""
        return np.argsort(-self.scores, kind="stable")

    def best_of(self, count: int) -> int:
        """Return the place of the best among the first ``count`` candidates."""
        return int(np.argmax(self.scores[:count]))

    def table(self, images: np.ndarray, keep: str) -> pa.Table:
        """Return the rows to store, best first.

        Of ``images`` uint8 [n, H, W, 3] those are stored that ``keep`` says: ``all``, the ``best``, or ``none``.
        """
        order = self.order
        kept = {"all": len(order), "best": 1, "none": 0}[keep]
        columns = {
            "id": [self.item.id] * len(order),
            "caption": [self.item.caption] * len(order),
            "image_id": [self.item.image_id] * len(order),
            "candidate": self.numbers[order],
            "seed": [self.item.seed] * len(order),
            "truncated": [self.truncated] * len(order),
            "image_tokens": list(self.image_tokens[order]),
            "score": self.scores[order],
            "rank": np.arange(len(order)),
            "image": [to_png(images[place]) if rank < kept else None for rank, place in enumerate(order)],
        }
        return pa.table(columns, schema=SCHEMA)


def candidates_folder(uri: str) -> ShardFolder:
    """Return the shards of candidates in a folder."""
    return ShardFolder(uri, ".parquet")


def open_shard(folder: ShardFolder, shard: int) -> pq.ParquetFile:
    """Return a finished shard of candidates; see :func:`read_caption` and :func:`read_images`.

    Raises:
        DataError: it is missing, or is not what its record says.
    """
    return pq.ParquetFile(io.BytesIO(folder.read(shard)))


def encode_shard(captions: Sequence[pa.Table]) -> bytes:
    """Return the tables of a shard's captions as one Parquet file, with a row group for each."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
        for table in captions:
            writer.write_table(table, row_group_size=len(table))
    return sink.getvalue()


def shard_record(captions: Sequence[pa.Table]) -> dict[str, Any]:
    """Return what the driver needs of a shard, for its done-record: ids, best scores, and sums of scores by rank.

    ``score_sums`` [n] adds up the shard's captions, so a whole evaluation takes n numbers, not captions x n.
    ``pixel_bytes`` is how much of the file are images.
    """
    scores = np.stack([table["score"].to_numpy() for table in captions])  # [captions, n], the best first
    return {
        "ids": [table["id"][0].as_py() for table in captions],
        "truncated": sum(table["truncated"][0].as_py() for table in captions),
        "best": scores[:, 0].tolist(),
        "score_sums": scores.sum(axis=0, dtype=np.float64).tolist(),
        "pixel_bytes": sum(table["image"].nbytes for table in captions),
    }


def read_caption(shard: pq.ParquetFile, index: int) -> CaptionCandidates:
    """Return the candidates of the ``index``-th caption of a shard."""
    table = shard.read_row_group(index, [name for name in SCHEMA.names if name != "image"]).sort_by("candidate")
    first = table.slice(0, 1).to_pylist()[0]
    return CaptionCandidates(
        item=WorkItem(first["id"], first["caption"], first["image_id"], first["seed"]),
        truncated=first["truncated"],
        numbers=table["candidate"].to_numpy(),
        image_tokens=np.stack(table["image_tokens"].to_numpy()),
        scores=table["score"].to_numpy(),
    )


def read_images(shard: pq.ParquetFile, index: int) -> dict[int, np.ndarray]:
    """Return those images uint8 [H, W, 3] of the ``index``-th caption that were kept, by the candidates' numbers."""
    rows = shard.read_row_group(index, ["candidate", "image"]).to_pylist()
    return {row["candidate"]: from_png(row["image"]) for row in rows if row["image"] is not None}


def to_png(image: np.ndarray) -> bytes:
    """Return an image uint8 [H, W, 3] encoded as PNG.

    PNG keeps every value; JPEG on one side of a comparison shifts a Fréchet distance by tens of points.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def from_png(data: bytes) -> np.ndarray:
    """Return the image uint8 [H, W, 3] that a PNG encodes."""
    return np.asarray(Image.open(io.BytesIO(data)))
