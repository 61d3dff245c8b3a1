"""What images are compared with: real images measured here, or a file of the statistics of real images."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.errors import UserError
from t2i.evaluate.features import npz_bytes
from t2i.evaluate.image_sets import ImageSet
from t2i.metrics.features import ExtractorProtocol
from t2i.metrics.statistics import FeatureStatistics
from t2i.storage import filesystem_for, read_file, write_file

# A reference file is an .npz that pytorch-fid reads, too:
#
#   mu [D], sigma [D, D], n       of the images without blur
#   mu-r2, sigma-r2               the same with blur of radius 2, and so on
#   protocol                      JSON: the extractor, and how the images were chosen (hash, size, crop)


class UnusableReferenceError(UserError):
    """A reference file cannot be used: it is damaged, or was made under another protocol."""


@dataclass(frozen=True)
class Reference:
    """Real ``images``, the statistics in ``file``, or both; then the statistics are the file's."""

    images: ImageSet | None
    file: str | None = None

    def statistics(self, radius: float) -> FeatureStatistics:
        """Return the statistics of the real images at a radius of blur."""
        if self.file is None:
            assert self.images is not None
            return self.images.statistics(radius)
        arrays, names = _open(self.file), (_name("mu", radius), _name("sigma", radius))
        return FeatureStatistics.of_covariance(int(arrays["n"]), *(arrays[name] for name in names))


def write_reference(
    images: ImageSet, extractor: ExtractorProtocol, radii: Sequence[float], described: dict[str, Any], uri: str
) -> None:
    """Write the statistics of real images to a file that other evaluations can be given as ``reference=``."""
    arrays: dict[str, Any] = {"n": images.statistics(0.0).count}
    for radius in radii:
        statistics = images.statistics(radius)
        arrays[_name("mu", radius)], arrays[_name("sigma", radius)] = statistics.mean, statistics.covariance
    protocol = {"extractor": asdict(extractor), "images": described | {"merkle_root": images.merkle_root}}
    arrays["protocol"] = json.dumps(protocol, sort_keys=True)
    write_file(*filesystem_for(uri), npz_bytes(arrays))


def check_reference(uri: str, extractor: ExtractorProtocol, radii: Sequence[float]) -> dict[str, Any]:
    """Return how the images of a reference file were chosen, after a check that it fits.

    Raises:
        DataError: the file cannot be read.
        UnusableReferenceError: it is no reference, was made by another extractor, or lacks a radius of blur.
    """
    arrays = _open(uri)
    if "protocol" not in arrays:
        raise UnusableReferenceError(
            f"reference is {uri}, which does not say what it was made of: use a coco_eval reference.npz."
        )
    protocol: dict[str, Any] = json.loads(str(arrays["protocol"]))
    wanted = asdict(extractor)
    different = [name for name in wanted if protocol["extractor"].get(name) != wanted[name]]
    if different:
        raise UnusableReferenceError(
            f"reference is {uri}, made by an extractor with another {different[0]}: use the same for both sides."
        )
    missing = [radius for radius in radii if _name("mu", radius) not in arrays]
    if missing:
        raise UnusableReferenceError(
            f"reference is {uri}, which has no blur of {missing[0]:g} px: leave it out of blur_radii."
        )
    images: dict[str, Any] = protocol["images"]
    return images


def _name(array: str, radius: float) -> str:
    return f"{array}-r{radius:g}" if radius else array


def _open(uri: str) -> dict[str, Any]:
    data = read_file(uri)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, KeyError) as error:
        raise UnusableReferenceError(
            f"reference is {uri}, which is no .npz of statistics: give one that coco_eval wrote."
        ) from error
