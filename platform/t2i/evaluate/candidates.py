"""Every candidate that was drawn is kept: one row each in Parquet files, all of a caption in the same file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from PIL import Image

from t2i.evaluate.work_list import WorkList, require_complete
from t2i.storage import filesystem_for, write_file

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "caption": pa.string(),
        "candidate": pa.int32(),
        "seed": pa.int64(),
        "truncated": pa.bool_(),
        "image_tokens": pa.list_(pa.int32()),
        "image": pa.binary(),  # PNG
        "score": pa.float32(),  # CLIP cosine
        "rank": pa.int32(),  # 0 is the best of its caption
        "caption_feature": pa.list_(pa.float32()),  # unit norm, the same for all candidates of a caption
    }
)


@dataclass(frozen=True)
class Candidates:
    """The stored candidates of a whole manifest, captions in its order and the best first.

    ``scores`` float32 [captions, n], ``caption_features`` float32 [captions, E]; images stay on disk.
    """

    ids: list[str]
    scores: np.ndarray
    caption_features: np.ndarray
    truncated: int
    directory: Path

    def images(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Decode all candidates of some captions: id -> uint8 [n, H, W, 3], best first."""
        wanted = pads.field("id").isin(list(ids))
        table = open_candidates(self.directory).to_table(["id", "image", "rank"], wanted).sort_by("rank")
        images: dict[str, list[np.ndarray]] = {id: [] for id in ids}
        for id, image in zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True):
            images[id].append(from_png(image))
        return {id: np.stack(ranked) for id, ranked in images.items()}


def store_candidates(table: pa.Table, directory: str | Path) -> None:
    """Write one file, whole or not at all; a retried batch writes the same file again."""
    name = hashlib.sha256("\n".join(table["id"].to_pylist()).encode()).hexdigest()[:16]
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_file(*filesystem_for(Path(directory) / f"{name}.parquet"), buffer.getvalue())


def candidate_files(directory: str | Path) -> list[str]:
    """The Parquet files of a manifest's directory."""
    return sorted(str(file) for file in Path(directory).glob("*.parquet"))


def open_candidates(directory: str | Path) -> pads.Dataset:
    """The stored rows, lazily."""
    return pads.dataset(candidate_files(directory), schema=SCHEMA, format="parquet")


def finished_ids(directory: str | Path) -> set[str]:
    """Captions whose candidates are all stored."""
    return set(open_candidates(directory).to_table(["id"])["id"].to_pylist())


def read_candidates(directory: str | Path, work_list: WorkList) -> Candidates:
    """Gather what the figures need.

    Raises:
        IncompleteEvaluation: a caption of the manifest has no candidates.
    """
    directory = Path(directory)
    require_complete(work_list, finished_ids(directory), directory)
    columns = ["id", "truncated", "caption_feature"]
    best = {row["id"]: row for row in _rows(directory, columns, pads.field("rank") == 0)}
    scores: dict[str, list[float]] = {id: [] for id in best}
    for row in _rows(directory, ["id", "score"], None):
        scores[row["id"]].append(row["score"])
    ids = [item.id for item in work_list.items]
    return Candidates(
        ids=ids,
        scores=-np.sort(-np.array([scores[id] for id in ids], np.float32), axis=1),
        caption_features=np.array([best[id]["caption_feature"] for id in ids], np.float32),
        truncated=sum(best[id]["truncated"] for id in ids),
        directory=directory,
    )


def to_png(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] -> PNG, which keeps every value (a JPEG on one side shifts a distance by tens of points)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def from_png(data: bytes) -> np.ndarray:
    """PNG -> uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(data)))


def _rows(directory: Path, columns: list[str], wanted: pads.Expression | None) -> list[dict]:
    return open_candidates(directory).to_table(columns, wanted).to_pylist()
