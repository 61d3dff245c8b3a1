"""Features of images on disk: shards that hold, for each image set of a family, what all metrics are computed from.

A *family* is measured together: ``drawn`` (``best``, ``first``, ``best_of_2``, ...), ``real`` (``real``,
``reconstruction``, ``random_tokens``) and ``train`` (``train``).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from t2i.evaluate.shards import ShardFolder
from t2i.storage import as_data_error, filesystem_for, with_retries

SUFFIX = ".npz"


@dataclass(frozen=True)
class ImageFeatures:
    """What is known of n images of one set, in the order of the shard.

    Attributes:
        ids: of the images (real, train) or of the captions that they were drawn for.
        hashes: uint8 [n, 32], SHA-256 of each image's bytes (:func:`hash_images`).
        clip: float32 [n, F], unit-norm CLIP features.
        features: radius of blur -> float32 [n, D], the extractor's features.
        logits: radius of blur -> float32 [n, classes], its class logits.
    """

    ids: Sequence[str]
    hashes: np.ndarray
    clip: np.ndarray
    features: Mapping[float, np.ndarray]
    logits: Mapping[float, np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays, by the names that :meth:`FeatureFolder.column` takes."""
        plain = {"ids": np.array(self.ids, np.str_), "hashes": self.hashes, "clip": self.clip}
        features = {column_at("features", radius): array for radius, array in self.features.items()}
        return plain | features | {column_at("logits", radius): array for radius, array in self.logits.items()}


def column_at(name: str, radius: float) -> str:
    """Return the name of the column with ``features`` or ``logits`` at a radius of blur."""
    return f"{name}-r{radius:g}"


def encode_features(sets: Mapping[str, ImageFeatures], extra: Mapping[str, np.ndarray]) -> bytes:
    """Return a shard's image sets, and ``extra`` arrays by name, as the content of an .npz file."""
    arrays: dict[str, Any] = dict(extra)
    for name, images in sets.items():
        arrays |= {f"{name}/{column}": array for column, array in images.arrays().items()}
    return npz_bytes(arrays)


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Return arrays by name as the content of an .npz file; the same arrays are the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def hash_images(images: np.ndarray) -> np.ndarray:
    """Return the SHA-256 of each image's bytes, pixels row by row: uint8 [n, H, W, 3] -> uint8 [n, 32]."""
    digests = [np.frombuffer(hashlib.sha256(image.tobytes()).digest(), np.uint8) for image in images]
    return np.array(digests, np.uint8).reshape(-1, 32)


@dataclass(frozen=True)
class FeatureFolder:
    """The finished feature shards of one family, read column by column; nothing is held in memory."""

    uri: str
    shards: int

    @property
    def folder(self) -> ShardFolder:
        """The shards' files."""
        return ShardFolder(self.uri, SUFFIX)

    def column(self, name: str) -> np.ndarray:
        """Return an array of all shards, one after the other: ``<image set>/<column>``, or an extra array.

        Of a shard's file only this array is read.

        Raises:
            DataError: a shard is missing or cannot be read.
        """
        return np.concatenate([self._part(shard, name) for shard in range(self.shards)])

    def _part(self, shard: int, name: str) -> np.ndarray:
        path = self.folder.path(shard)
        with as_data_error(path):
            return with_retries(partial(_read_array, path, name))


def _read_array(uri: str, name: str) -> np.ndarray:
    filesystem, path = filesystem_for(uri)
    with filesystem.open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        array: np.ndarray = arrays[name]
    return array
