"""Compute figures in Ray tasks, so that the driver holds numbers and never features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray
from tqdm import tqdm

from t2i.evaluate.features import FeatureFolder
from t2i.evaluate.figures import Figure, caption_figures, image_figures
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.overlap import overlap_figures
from t2i.evaluate.reference import Reference
from t2i.evaluate.sweep import measured_radii
from t2i.evaluate.tasks import one_thread
from t2i.evaluate.work_list import WorkItem
from t2i.metrics.features import ExtractorProtocol


@dataclass(frozen=True)
class ImageCaptions:
    """The CLIP features of the drawn captions, in ``folder`` in the order of the captions' ``ids``.

    ``image_ids`` are the images that they describe; of several captions of an image the first counts.
    """

    folder: FeatureFolder
    ids: Sequence[str]
    image_ids: Sequence[str]

    @classmethod
    def of_items(cls, folder: FeatureFolder, items: Sequence[WorkItem]) -> ImageCaptions:
        """Return the captions ``items``, with the features in the folder of the drawn images."""
        return cls(folder, [item.id for item in items], [item.image_id for item in items])

    def of(self, images: ImageSet) -> dict[str, np.ndarray]:
        """Return id of an image -> feature float32 [F] of its caption; drawn images have their caption's id."""
        features = self.folder.column("captions")
        names = self.ids if images.folder == self.folder else self.image_ids
        return dict(zip(reversed(names), features[::-1], strict=True))


def measure(
    sets: Sequence[ImageSet],
    reference: Reference | None,
    captions: ImageCaptions,
    extractor: ExtractorProtocol,
    radii: Sequence[float],
    seed: int,
    overlap: float | None = None,
) -> list[Figure]:
    """Return all figures of one caption set; without a reference, those that compare images with captions.

    The order of the figures, and every bit of them, is the same however many tasks run at once.
    """
    named = {images.name: images for images in sets}
    # Statistics are files, which tasks of several figures read: they are written first, each by one task.
    ray.get([_statistics.remote(images, radius) for images in sets for radius in measured_radii(images.name, radii)])
    tasks = [_captions.remote(images, captions, seed) for images in sets if images.name != "train"]
    tasks += [
        _images.remote(images, reference, extractor, radius)
        for radius in (radii if reference is not None else ())
        for images in sets
        if radius in measured_radii(images.name, radii)
    ]
    if overlap is not None and {"real", "train"} <= named.keys():
        image_ids = dict(zip(captions.ids, captions.image_ids, strict=True))
        compared = (named["best"], named["real"], named["train"])
        tasks.append(_overlap.remote(*compared, image_ids, extractor, overlap))
    bar = tqdm(total=len(tasks), desc="figures", unit="task", disable=None)
    found: list[Figure] = []
    for task in tasks:
        figures: list[Figure] = ray.get(task)
        found += figures
        bar.update()
    bar.close()
    return found


@one_thread
def _statistics(images: ImageSet, radius: float) -> None:
    images.statistics(radius)


@one_thread
def _captions(images: ImageSet, captions: ImageCaptions, seed: int) -> list[Figure]:
    return caption_figures(images, captions.of(images), seed)


_images = one_thread(image_figures)
_overlap = one_thread(overlap_figures)
