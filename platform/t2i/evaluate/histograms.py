"""How the CLIP cosines of images with their captions are spread, counted where the features are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray

from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.measure import ImageCaptions
from t2i.metrics.clip_score import cosine

BINS = 20


@dataclass(frozen=True)
class CosineHistogram:
    """Numbers of images in bins of the CLIP cosine: ``counts`` of each image set, between ``edges`` (one more)."""

    edges: list[float]
    counts: dict[str, list[int]]


def cosine_histogram(sets: Sequence[ImageSet], captions: ImageCaptions) -> CosineHistogram:
    """Return the histogram of image sets, each image beside its own caption; images without one are left out."""
    found: CosineHistogram = ray.get(_count.remote(sets, captions))
    return found


@ray.remote(num_cpus=1, max_retries=-1)
def _count(sets: Sequence[ImageSet], captions: ImageCaptions) -> CosineHistogram:
    return count({images.name: _cosines(images, captions) for images in sets})


def count(cosines: dict[str, np.ndarray]) -> CosineHistogram:
    """Return the histogram of cosines [n] of each image set, in the same bins, which hold all of them."""
    edges = np.histogram_bin_edges(np.concatenate(list(cosines.values())), BINS)
    counts = {name: np.histogram(values, edges)[0].tolist() for name, values in cosines.items()}
    return CosineHistogram(edges.tolist(), counts)


def _cosines(images: ImageSet, captions: ImageCaptions) -> np.ndarray:
    of, ids = captions.of(images), images.ids
    rows = [row for row, image_id in enumerate(ids) if image_id in of]
    return cosine(images.clip[rows], np.stack([of[ids[row]] for row in rows]))
