"""The protocol of an evaluation as a record: all that its figures depend on, by stable keys."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from models.manifest import file_hash
from models.run_sizes import run_sizes
from t2i.config import recorded
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.evaluation import MeasuredSet, Measuring
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.prepare import PreparedSet
from t2i.evaluate.protocols import departures, full_name
from t2i.storage import fetch_file, fetch_run

REPORTED_PACKAGES = ("torch", "torchvision", "ray", "numpy", "scipy", "pillow", "open_clip_torch")

NAMED = 3
"""Real images that could not be used which the protocol names."""


def protocol(measured: MeasuredSet, measuring: Measuring, config: EvaluateConfig) -> dict[str, Any]:
    """Return what another evaluation must have in common with this one for their figures to be comparable."""
    prepared = measured.prepared
    work_list, caption_set = prepared.work_list, prepared.caption_set
    return {
        "full_name": _full_name(measured, measuring, config),
        "conventions": config.conventions,
        "departures": departures(config),
        "source": recorded(caption_set.source)["path"],
        "pick": config.pick,
        "captions": len(work_list.items),
        "captions_asked_for": config.captions,
        "caption_hash": work_list.caption_hash,
        "captions_truncated": measured.summary.truncated,
        "candidates": work_list.candidates,
        "pruning": work_list.pruning and work_list.pruning | {"finished": config.pruning.count(work_list.candidates)},
        "selection": "best by CLIP cosine",
        "sampling": work_list.sampling,
        "seed": work_list.seed,
        "dtype": work_list.dtype + (", compiled" if work_list.compiled else ""),
        "models": work_list.models,
        "drawn_image_size": list(run_sizes(fetch_run(config.run)).image_size),
        "image_size": _height(config),
        "reference": config.reference,
        "reference_images": config.reference_images,
        "real_images_source": recorded(caption_set.image_source)["path"] if caption_set.images else None,
        "real_images": len(prepared.real.ids) if prepared.real else None,
        "real_images_left_out": _left_out(prepared),
        "crop": config.crop,
        "real_image_preparation": "made square by crop, shrunk by area averaging, white behind transparency",
        "extractor": asdict(measuring.extractor),
        "blur": "PIL GaussianBlur, both sides",
        "blur_radii": list(config.blur_radii),
        "training_images": measured.training,
        "overlap": config.overlap,
        "versions": {package: version(package) for package in REPORTED_PACKAGES},
    }


def _height(config: EvaluateConfig) -> int:
    """Return the height of images in pixels when their features are taken; all but plain prompts' are squares."""
    return config.image_size or run_sizes(fetch_run(config.run)).image_size[0]


def _full_name(measured: MeasuredSet, measuring: Measuring, config: EvaluateConfig) -> str | None:
    """Return the name that two evaluations share if their distances may be compared; None if there are none."""
    real = measured.sets.get("real")
    if config.reference is None and real is None:
        return None
    return full_name(
        metric=measuring.extractor.metric_name("fid"),
        set_name=measured.prepared.caption_set.name,
        count=len(measured.prepared.work_list.items),
        side=_height(config),
        crop=config.crop,
        preset=measuring.extractor.preset,
        reference_hash=_reference_hash(real, config.reference),
        reference_images=config.reference_images,
    )


def _reference_hash(real: ImageSet | None, reference: str | None) -> str:
    """Return the hash of the file of statistics, else the Merkle root of the real images: both as in the receipt."""
    if reference is not None:
        return file_hash(fetch_file(reference))
    return real.merkle_root if real is not None else ""


def _left_out(prepared: PreparedSet) -> dict[str, Any] | None:
    """Return how many of the real images could not be used, the first of them, and where the unreadable are listed."""
    if prepared.real is None:
        return None
    wanted, stored = [item.image_id for item in prepared.work_list.items], set(prepared.real.ids)
    missing = [image_id for image_id in dict.fromkeys(wanted) if image_id not in stored]
    folder = prepared.layout.images("real").removeprefix(prepared.layout.root)
    unreadable = f"{prepared.caption_set.name}{folder}/unreadable"  # beside the report, wherever that is
    return {"count": len(missing), "first": missing[:NAMED], "unreadable": unreadable}
