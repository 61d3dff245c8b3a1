"""The files of an evaluation and their hashes, as a receipt lists them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from models.manifest import MANIFEST
from t2i.evaluate.candidates import candidates_folder
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.evaluation import MeasuredSet
from t2i.evaluate.features import SUFFIX, FeatureFolder
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.shards import READERS, ShardFolder
from t2i.evaluate.sweep import measured_radii
from t2i.storage import read_file

STORED = ("real", "train")
"""Image sets whose pixels are all stored."""


def hashed_files(measured: Sequence[MeasuredSet], config: EvaluateConfig) -> dict[str, str]:
    """Return path relative to ``config.out`` -> SHA-256 of every file that the figures were computed from, sorted.

    Those of shards and images are as recorded when they were written; the others are read.
    """
    found: dict[str, str] = {}
    for each in measured:
        layout, images = each.prepared.layout, list(each.sets.values())
        found |= _hashes_of([layout.work_list, layout.captions, *_statistics(images, config)])
        found |= _shard_hashes(candidates_folder(layout.candidates), len(each.prepared.work_list.shards))
        for folder in feature_folders(each, config):
            found |= _shard_hashes(folder.folder, folder.shards)
        for name in set(STORED) & set(each.sets):
            found |= _part_hashes(each.sets[name].layout.images(name))
    return {relative(path, config): found[path] for path in sorted(found)}


def relative(path: str, config: EvaluateConfig) -> str:
    """Return a path within the evaluation's folder relative to it."""
    return path.removeprefix(f"{config.out}/")


def feature_folders(measured: MeasuredSet, config: EvaluateConfig) -> list[FeatureFolder]:
    """Return the folders with the features of a caption set's images, each once, and of its evidence lower bound."""
    folders = list(dict.fromkeys(images.folder for images in measured.sets.values()))
    shards = elb_shards(measured, config)
    elb = FeatureFolder(measured.prepared.layout.features(measured.sets["best"].protocol, "elb"), shards)
    return [*folders, elb] if shards else folders


def elb_shards(measured: MeasuredSet, config: EvaluateConfig) -> int:
    """Return how many shards of the evidence lower bound there are: 0 where it was not measured."""
    if not config.elb or measured.prepared.real is None:
        return 0
    protocol = measured.sets["best"].protocol
    return len(ShardFolder(measured.prepared.layout.features(protocol, "elb"), SUFFIX).done())


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(read_file(path)).hexdigest()


def _statistics(images: Iterable[ImageSet], config: EvaluateConfig) -> list[str]:
    return [
        each.layout.statistics(each.protocol, each.name, radius)
        for each in images
        for radius in measured_radii(each.name, config.blur_radii)
    ]


def _hashes_of(paths: Sequence[str]) -> dict[str, str]:
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(paths, pool.map(sha256_of, paths), strict=True))


def _shard_hashes(folder: ShardFolder, shards: int) -> dict[str, str]:
    return {folder.path(shard): record["sha256"] for shard, record in enumerate(folder.records(shards))}


def _part_hashes(folder: str) -> dict[str, str]:
    files: dict[str, str] = json.loads(read_file(f"{folder}/{MANIFEST}"))["files"]
    return {f"{folder}/{name}": sha256 for name, sha256 in files.items()}
