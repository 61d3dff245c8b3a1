"""Features of each set of images, collected on the driver; most metrics are computed from them."""

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
"""Images whose features are converted to float64 at once."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of n images, sorted by ``ids``, for each radius of blur in the configuration's order.

    ``clip`` float32 [n, F] are unit-norm CLIP features of the images without blur; ``features`` float32 [n, radii, F]
    and ``logits`` float32 [n, radii, classes] are the extractor's. ``shown`` holds the few images that the report
    prints: id -> uint8 [H, W, 3].
    """

    ids: list[str]
    clip: np.ndarray
    features: np.ndarray
    logits: np.ndarray
    shown: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    def statistics(self, radius_index: int) -> FeatureStatistics:
        """Return the mean and covariance of the features at the ``radius_index``-th radius of blur."""
        features = self.features[:, radius_index]
        chunks = (features[start : start + CHUNK] for start in range(0, len(features), CHUNK))
        return merge_statistics(map(FeatureStatistics.of, chunks))


def gather(batches: Iterable[pa.Table]) -> dict[str, FeatureSet]:
    """Collect the rows of :class:`t2i.evaluate.stages.ExtractFeatures` into one FeatureSet per image set, by name."""
    # Batches arrive in whatever order the actors finish, and one batch can hold rows of several sets: MakeControls
    # makes three sets of every batch of real images, and Ray Data may split and join blocks. So rows are told apart
    # by their column "set", batch by batch, and sorted by id at the end. The order matters: KID's subsets and the
    # inception score's splits are drawn by position, and must be the same in every run with the same seed.
    parts: dict[str, list[pa.Table]] = defaultdict(list)
    for batch in batches:
        for name in batch["set"].unique().to_pylist():
            parts[name].append(batch.filter(pc.equal(batch["set"], name)))
    return {name: _feature_set(pa.concat_tables(tables)) for name, tables in parts.items()}


def _feature_set(table: pa.Table) -> FeatureSet:
    ids = np.array(table["id"].to_pylist())
    order = np.argsort(ids, kind="stable")
    shown = {
        image_id: from_png(png) for image_id, png in zip(ids.tolist(), table["png"].to_pylist(), strict=True) if png
    }
    tensors = {name: column_array(table[name])[order] for name in ("clip", "features", "logits")}
    return FeatureSet(ids[order].tolist(), **tensors, shown=shown)
