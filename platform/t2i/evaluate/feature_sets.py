"""What the figures are computed from: features of one set of images, gathered on the driver."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2i.data.tensors import column_array
from t2i.evaluate.candidates import from_png
from t2i.metrics.statistics import FeatureStatistics, merge_statistics

CHUNK = 1024


@dataclass(frozen=True)
class FeatureSet:
    """n images by id: ``clip`` [n, E] unit norm, ``features`` [n, R, D] and ``logits`` [n, R, C] at R radii of blur.

    ``shown`` holds the few images that the report prints, uint8 [H, W, 3] by id.
    """

    ids: list[str]
    clip: np.ndarray
    features: np.ndarray
    logits: np.ndarray
    shown: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    def statistics(self, radius: int) -> FeatureStatistics:
        """Of the features at the ``radius``-th blur."""
        features = self.features[:, radius]
        chunks = (features[start : start + CHUNK] for start in range(0, len(features), CHUNK))
        return merge_statistics(map(FeatureStatistics.of, chunks))


def gather(batches: Iterable[pa.Table]) -> dict[str, FeatureSet]:
    """Rows of :class:`t2i.evaluate.stages.ExtractFeatures`, in any order -> one FeatureSet per image set."""
    parts: dict[str, list[pa.Table]] = defaultdict(list)
    for batch in batches:
        for name in batch["set"].unique().to_pylist():
            parts[name].append(batch.filter(pc.equal(batch["set"], name)))
    return {name: _feature_set(pa.concat_tables(tables)) for name, tables in parts.items()}


def _feature_set(table: pa.Table) -> FeatureSet:
    ids = np.array(table["id"].to_pylist())
    order = np.argsort(ids, kind="stable")
    shown = {id: from_png(png) for id, png in zip(ids.tolist(), table["png"].to_pylist(), strict=True) if png}
    tensors = {name: column_array(table[name])[order] for name in ("clip", "features", "logits")}
    return FeatureSet(ids[order].tolist(), **tensors, shown=shown)
