"""Make the receipt of an evaluation: every figure, and everything that the figures depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from models.run_sizes import run_sizes
from t2i.config import recorded
from t2i.evaluate.candidates import candidates_folder
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.evaluation import MeasuredSet, Measuring
from t2i.evaluate.features import FeatureFolder
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.layout import RECEIPT
from t2i.evaluate.receipts.circumstances import code_version, hardware, installed_packages
from t2i.evaluate.receipts.costs import stage_seconds, storage_bytes
from t2i.evaluate.receipts.files import (
    elb_shards,
    hashed_files,
    relative,
    sha256_of,
)
from t2i.evaluate.reference import Reference
from t2i.evaluate.sweep import measured_radii
from t2i.storage import fetch_run, filesystem_for, write_file

FORMAT = 1
"""Version of the receipt's format; readers refuse others."""


def write_receipt(
    measured: Sequence[MeasuredSet], measuring: Measuring, models: dict[str, str], config: EvaluateConfig
) -> str:
    """Write ``receipt.json`` beside the report, and return its path."""
    path = f"{config.out}/{RECEIPT}"
    text = json.dumps(make_receipt(measured, measuring, models, config), indent=1, ensure_ascii=False)
    write_file(*filesystem_for(path), text.encode())
    return path


def make_receipt(
    measured: Sequence[MeasuredSet], measuring: Measuring, models: dict[str, str], config: EvaluateConfig
) -> dict[str, Any]:
    """Return the receipt as plain values; paths are relative to the evaluation's folder ``config.out``.

    What is long (ids, packages, the files with their hashes) comes last.
    """
    packages = installed_packages()
    return {
        "format": FORMAT,
        "job": "coco_eval",
        "sets": [_caption_set(each, config) for each in measured],
        "measuring": {
            "extractor": asdict(measuring.extractor),
            "clip": models["clip"],
            "features": measuring.protocol,
            "image_size": config.image_size or run_sizes(fetch_run(config.run)).image_size,
            "real_images": real_images(config.crop),
            "blur": "PIL GaussianBlur, both sides",
            "blur_radii": list(config.blur_radii),
        },
        "models": models,
        "settings": recorded(config.for_workers()),
        "code": code_version(),
        "circumstances": {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "hardware": hardware(),
            **_costs(measured, config),
        },
        "packages": {"sha256": packages_hash(packages), "list": packages},
        "files": hashed_files(measured, config),
    }


def real_images(crop: str) -> dict[str, str]:
    """Return how the images to compare with are brought to the size in which they are measured."""
    square = {"centre": "centre square, resize", "squash": "resize out of proportion"}[crop]
    return {
        "order": f"decode, white behind transparency, {square}",
        "library": "t2i.data.transforms on numpy; Pillow decodes, and enlarges",
        "filter": "mean over each pixel's area; bicubic where an image is enlarged",
        "stored": "PNG",
    }


def packages_hash(packages: Sequence[str]) -> str:
    """Return the SHA-256 of ``name==version`` lines."""
    return hashlib.sha256("\n".join(packages).encode()).hexdigest()


def _caption_set(measured: MeasuredSet, config: EvaluateConfig) -> dict[str, Any]:
    """Return one caption set's part of the receipt."""
    prepared, work_list = measured.prepared, measured.prepared.work_list
    return {
        "name": prepared.caption_set.name,
        "captions": {
            "source": recorded(prepared.caption_set.source),
            "count": len(work_list.items),
            "sha256": work_list.caption_hash,
            "truncated": measured.summary.truncated,
            "list": relative(prepared.layout.captions, config),
        },
        "drawing": {
            "candidates": work_list.candidates,
            "selection": "best by CLIP cosine",
            "sampling": work_list.sampling,
            "pruning": work_list.pruning,
            "seed": work_list.seed,
            "dtype": work_list.dtype,
            "compiled": work_list.compiled,
            "models": work_list.models,
        },
        "reference": _reference(measured, config),
        "training_images": measured.training,
        "figures": [asdict(figure) for figure in measured.figures],
        "images": {name: _image_set(images, config) for name, images in measured.sets.items()},
        "elb_shards": elb_shards(measured, config),
        "caption_ids": [item.id for item in work_list.items],
    }


def _reference(measured: MeasuredSet, config: EvaluateConfig) -> dict[str, Any] | None:
    """Return what the images are compared with: a file with its hash, or the set's own images; None if nothing is."""
    if config.reference:
        n = Reference(None, config.reference).statistics(0.0).count
        return {"file": config.reference, "sha256": sha256_of(config.reference), "n": n}
    return {"images": "real", "n": len(measured.sets["real"].hashes)} if "real" in measured.sets else None


def _image_set(images: ImageSet, config: EvaluateConfig) -> dict[str, Any]:
    """Return what identifies the images of a set, and where their features are."""
    return {
        "count": len(images.ids),
        "merkle_root": images.merkle_root,
        "folder": relative(images.layout.root, config),
        "family": images.folder.uri.rpartition("/")[2],
        "shards": images.folder.shards,
        "radii": measured_radii(images.name, config.blur_radii),
    }


def _costs(measured: Sequence[MeasuredSet], config: EvaluateConfig) -> dict[str, Any]:
    """Return the seconds of each stage and the bytes that are stored, of all sets together."""
    drawn: list[dict[str, Any]] = []
    features: dict[str, FeatureFolder] = {}
    for each in measured:
        folder = candidates_folder(each.prepared.layout.candidates)
        drawn += folder.records(len(each.prepared.work_list.shards))
        features |= {images.folder.uri: images.folder for images in each.sets.values()}
    records = [record for each in features.values() for record in each.folder.records(each.shards)]
    return {
        "stages": stage_seconds(records, config.candidates),
        "storage": storage_bytes(drawn, records, config.candidates),
    }
