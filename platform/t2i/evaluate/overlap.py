"""The overlap control: distances without the real images that look like training images (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from t2i.evaluate.figures import Figure
from t2i.evaluate.image_sets import ImageSet
from t2i.metrics.blocks import row_blocks
from t2i.metrics.features import ExtractorProtocol
from t2i.metrics.fid import frechet_distance
from t2i.metrics.kid import kernel_distance
from t2i.metrics.statistics import FeatureStatistics

FEWEST = 20
"""Images below which nothing is measured."""

SUBJECT = "best_distinct"


def overlap_figures(
    drawn: ImageSet,
    real: ImageSet,
    training: ImageSet,
    image_ids: Mapping[str, str],
    extractor: ExtractorProtocol,
    threshold: float,
) -> list[Figure]:
    """Return distances of the drawn images from the real ones, without those whose nearest training image is alike.

    A real image is left out, and what was drawn for its captions (``image_ids``: caption id -> image id), if its CLIP
    cosine with a training image is at least ``threshold``. Only the measured training images are compared.
    """
    cosines = nearest_cosines(real.clip, training.clip)
    distinct = cosines < threshold
    kept = {image_id for image_id, is_kept in zip(real.ids, distinct, strict=True) if is_kept}
    rows = np.array([image_ids[caption_id] in kept for caption_id in drawn.ids], bool)
    ours, theirs = drawn.features(0.0)[rows], real.features(0.0)[distinct]
    if min(len(ours), len(theirs)) < FEWEST:
        return []
    details = {"threshold": threshold, "left_out": int((~distinct).sum()), "training_images": len(training.ids)}
    values = {
        "fid": frechet_distance(FeatureStatistics.of(ours), FeatureStatistics.of(theirs)),
        "kid": kernel_distance(ours, theirs).mean,
    }
    sizes = (len(ours), len(theirs))
    return [
        Figure(extractor.metric_name(metric), SUBJECT, "real", value, None, *sizes, details=details)
        for metric, value in values.items()
    ]


def nearest_cosines(images: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return each image's cosine with its nearest training image: float32 [n], of unit-norm [n, F] and [m, F]."""
    nearest = np.full(len(images), -np.inf, np.float32)
    for rows in row_blocks(len(images)):
        for others in row_blocks(len(training)):
            np.maximum(nearest[rows], (images[rows] @ training[others].T).max(axis=1), out=nearest[rows])
    return nearest
