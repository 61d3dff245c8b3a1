"""The drawn candidates on disk: Parquet files with one row per candidate, all those of a caption in the same file."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from PIL import Image

from t2i.evaluate.work_list import WorkList, require_complete
from t2i.storage import filesystem_for, write_file

SCHEMA = pa.schema(
    {
        "id": pa.string(),  # of the caption
        "caption": pa.string(),
        "candidate": pa.int32(),  # 0 is the first that was drawn
        "seed": pa.int64(),
        "truncated": pa.bool_(),  # the caption was too long for the prior
        "image_tokens": pa.list_(pa.int32()),
        "image": pa.binary(),  # PNG
        "score": pa.float32(),  # CLIP cosine
        "rank": pa.int32(),  # 0 is the best of its caption
        "caption_feature": pa.list_(pa.float32()),  # unit norm, the same for all candidates of a caption
    }
)


@dataclass(frozen=True)
class Candidates:
    """What the metrics need of a whole work list's candidates; captions in its order, images stay on disk.

    ``scores`` float32 [captions, n] has each caption's CLIP cosines, the best first; ``caption_features`` is float32
    [captions, F]; ``truncated`` counts captions that were too long for the prior.
    """

    ids: list[str]
    scores: np.ndarray
    caption_features: np.ndarray
    truncated: int
    directory: Path

    def images(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Return all candidates of some captions: id -> images uint8 [n, H, W, 3], the best first."""
        wanted = pads.field("id").isin(list(ids))
        table = open_candidates(self.directory).to_table(["id", "image", "rank"], wanted).sort_by("rank")
        images: dict[str, list[np.ndarray]] = defaultdict(list)
        for caption_id, png in zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True):
            images[caption_id].append(from_png(png))
        return {caption_id: np.stack(images[caption_id]) for caption_id in ids}


def store_candidates(table: pa.Table, directory: str | Path) -> None:
    """Write rows of :data:`SCHEMA` as one Parquet file, which appears whole or not at all.

    The file is named after the ids in it, so a retried batch replaces its own file instead of adding a second one.
    """
    name = hashlib.sha256("\n".join(table["id"].to_pylist()).encode()).hexdigest()[:16]
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_file(*filesystem_for(Path(directory) / f"{name}.parquet"), buffer.getvalue())


def candidate_files(directory: str | Path) -> list[str]:
    """Return the paths of a directory's Parquet files, sorted."""
    return sorted(str(file) for file in Path(directory).glob("*.parquet"))


def open_candidates(directory: str | Path) -> pads.Dataset:
    """Return the stored candidates as a dataset, which reads only the columns and rows that are asked for."""
    return pads.dataset(candidate_files(directory), schema=SCHEMA, format="parquet")


def finished_ids(directory: str | Path) -> set[str]:
    """Return the ids of the captions whose candidates are all stored."""
    return set(open_candidates(directory).to_table(["id"])["id"].to_pylist())


def read_candidates(directory: str | Path, work_list: WorkList) -> Candidates:
    """Return what the metrics need of all candidates.

    Raises:
        IncompleteEvaluationError: a caption of the work list has no candidates.
    """
    directory = Path(directory)
    require_complete(work_list, finished_ids(directory), directory)
    columns = ["id", "truncated", "caption_feature"]
    best = {row["id"]: row for row in _rows(directory, columns, pads.field("rank") == 0)}
    scores: dict[str, list[float]] = defaultdict(list)
    for row in _rows(directory, ["id", "score"], None):
        scores[row["id"]].append(row["score"])
    ids = [item.id for item in work_list.items]
    return Candidates(
        ids=ids,
        scores=-np.sort(-np.array([scores[caption_id] for caption_id in ids], np.float32), axis=1),
        caption_features=np.array([best[caption_id]["caption_feature"] for caption_id in ids], np.float32),
        truncated=sum(best[caption_id]["truncated"] for caption_id in ids),
        directory=directory,
    )


def to_png(image: np.ndarray) -> bytes:
    """Return an image uint8 [H, W, 3] encoded as PNG.

    PNG keeps every value; JPEG on one side of a comparison shifts a Fréchet distance by tens of points.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def from_png(data: bytes) -> np.ndarray:
    """Return the image uint8 [H, W, 3] that a PNG encodes."""
    return np.asarray(Image.open(io.BytesIO(data)))


def _rows(directory: Path, columns: list[str], wanted: pads.Expression | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = open_candidates(directory).to_table(columns, wanted).to_pylist()
    return rows
