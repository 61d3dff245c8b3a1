"""Image sets of made-up features on disk, as an evaluation leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t2i.evaluate.features import SUFFIX, FeatureFolder, ImageFeatures, encode_features
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.shards import ShardFolder

RADII = [0.0, 4.0]


def store_set(
    root: Path,
    name: str,
    clip: np.ndarray,
    shift: float,
    ids: list[str],
    captions: np.ndarray | None = None,
    classes: int = 5,
) -> ImageSet:
    """Store images whose features are ``shift`` away from 0, at two radii of blur; return them as an image set."""
    random = np.random.default_rng(int(shift * 10))
    n = len(ids)
    features = {radius: random.normal(shift, 1, (n, 6)).astype(np.float32) for radius in RADII}
    logits = {radius: random.normal(size=(n, classes)).astype(np.float32) for radius in RADII}
    hashes = random.integers(0, 256, (n, 32), np.uint8)
    folder = ShardFolder(f"{root}/features/{name}", SUFFIX)
    extra = {} if captions is None else {"captions": captions}
    folder.write(0, encode_features({name: ImageFeatures(ids, hashes, clip, features, logits)}, extra), {})
    return ImageSet(name, FeatureFolder(folder.uri, 1), SetLayout(str(root)), "p")
