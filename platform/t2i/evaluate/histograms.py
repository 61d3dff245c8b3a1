"""How the CLIP cosines of images with their captions are spread, counted where the features are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray

from t2i.evaluate.figures import beside_captions
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.measure import ImageCaptions
from t2i.evaluate.tasks import one_thread
from t2i.metrics.clip_score import cosine

BINS = 20


@dataclass(frozen=True)
class CosineHistogram:
    """Numbers of images in bins of the CLIP cosine: ``counts`` of each image set, between ``edges`` (one more)."""

    edges: list[float]
    counts: dict[str, list[int]]


def cosine_histogram(sets: Sequence[ImageSet], captions: ImageCaptions) -> CosineHistogram:
    """Return the histogram of image sets, each image beside its own caption.

    Images without a caption are left out, and so are sets that have only such images.
    """
    found: CosineHistogram = ray.get(_count.remote(sets, captions))
    return found


@one_thread
def _count(sets: Sequence[ImageSet], captions: ImageCaptions) -> CosineHistogram:
    cosines = {images.name: own_cosines(images, captions) for images in sets}
    return count({name: values for name, values in cosines.items() if len(values)})


def count(cosines: dict[str, np.ndarray]) -> CosineHistogram:
    """Return the histogram of cosines [n] of each image set, in the same bins, which hold all of them."""
    edges = np.histogram_bin_edges(np.concatenate(list(cosines.values())), BINS)
    counts = {name: np.histogram(values, edges)[0].tolist() for name, values in cosines.items()}
    return CosineHistogram(edges.tolist(), counts)


def own_cosines(images: ImageSet, captions: ImageCaptions) -> np.ndarray:
    """Return the CLIP cosine of each image that has a caption, float32 [n]."""
    return cosine(*beside_captions(images, captions.of(images)))
