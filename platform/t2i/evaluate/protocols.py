"""Protocols: the conventions of published evaluations, a YAML each, and the full name of what a figure compares."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from textwrap import fill
from typing import TYPE_CHECKING, Any

import yaml

from t2i.config import CONFIGS

if TYPE_CHECKING:
    from t2i.evaluate.config import EvaluateConfig

JOB = "coco_eval"
CROP_NAMES = {"centre": "cc", "squash": "sq"}
"""Crop -> what it is called in a full name."""
SENTENCES = {
    "pick": {
        "first": "Of the captions of an image the first is drawn.",
        "random": "Of the captions of an image one is drawn, chosen by the seed.",
        "all": "Captions are drawn from those of all images together, so that an image may be meant several times.",
    },
    "reference_images": {
        "same": "They are compared with the images that these captions describe.",
        "all": "They are compared with all images of the set, whichever captions were drawn.",
        "train": "They are compared with all images of another set than that of the captions, the training images.",
    },
    "crop": {
        "centre": "Real images are cut to their centre square.",
        "squash": "Real images are made square out of proportion, without being cut.",
    },
}
"""Setting -> value -> what it means, in a sentence for people."""


@cache
def protocol_names() -> list[str]:
    """Return the names of all protocols, in the order of the alphabet."""
    return sorted(file.stem for file in (CONFIGS / JOB).glob("*.yaml"))


@cache
def read_protocol(name: str) -> dict[str, Any]:
    """Return what a protocol sets: nested values by field, and ``conventions``, which says whose they are."""
    settings: dict[str, Any] = yaml.safe_load((CONFIGS / JOB / f"{name}.yaml").read_text())
    return settings


def list_protocols() -> list[str]:
    """Return a paragraph for each protocol: its name and whose conventions it holds."""
    width = max(map(len, protocol_names()))
    return [
        fill(
            read_protocol(name)["conventions"],
            100,
            initial_indent=f"  {name:<{width}}  ",
            subsequent_indent=" " * (width + 4),
        )
        for name in protocol_names()
    ]


def protocol_sentences(config: EvaluateConfig) -> list[str]:
    """Return in sentences what an evaluation does by its settings, whether a protocol or the user gave them."""
    count = "All captions are" if config.captions is None else f"{config.captions} captions, chosen by the seed, are"
    images = "one image" if config.candidates == 1 else f"the best of {config.candidates} images by CLIP"
    side = "the size that the model draws" if config.image_size is None else f"{config.image_size} px"
    sentences = [f"{count} drawn, {images} for each."]
    sentences += [meanings[getattr(config, field)] for field, meanings in SENTENCES.items()]
    return [*sentences, f"Both sides are brought to {side} before features are taken."]


def departures(config: EvaluateConfig) -> list[str]:
    """Return what an evaluation does otherwise than its protocol: ``candidates is 8 instead of 512``, a line each."""
    if config.protocol is None:
        return []
    asked = _leaves(read_protocol(config.protocol))
    made = ((key, value, _value(config, key)) for key, value in asked if key != "conventions")
    return [f"{key} is {actual} instead of {value}" for key, value, actual in made if actual != value]


def _leaves(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested settings."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _value(config: Any, key: str) -> Any:
    """Return the value of a field by its dotted key."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def full_name(
    metric: str,
    set_name: str,
    count: int,
    side: int,
    crop: str,
    preset: str,
    reference_hash: str,
    reference_images: str = "same",
) -> str:
    """Return the full name of a figure's protocol, such as ``fid-coco2014-val30k-256cc-tf-1f2e3d4c``.

    Two figures may be compared only if their names are equal.

    Args:
        metric: the figure, such as ``fid``.
        set_name: name of the caption set.
        count: captions that were drawn.
        side: height and width in px of the images of both sides before the extractor.
        crop: how real images became square, a key of :data:`CROP_NAMES`.
        preset: how images are prepared for the extractor.
        reference_hash: hash in hex digits of what they are compared with; the first eight are taken.
        reference_images: with which images they are compared; ``same`` is not said.
    """
    of = [] if reference_images == "same" else [reference_images]
    size = f"{side}{CROP_NAMES[crop]}"
    return "-".join([metric, f"{set_name}{short_count(count)}", *of, size, preset, reference_hash[:8]])


def short_count(count: int) -> str:
    """Return a count as it is spoken of: 30k for 30 000, 40504 for 40 504."""
    return f"{count // 1000}k" if count >= 1000 and count % 1000 == 0 else str(count)
