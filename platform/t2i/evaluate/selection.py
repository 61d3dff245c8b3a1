"""Which captions of a set are drawn, and which images the drawn ones are compared with.

All choices are made by SHA-256 of the seed and of what is chosen from. So they do not depend on the order of files, on
the machine or on a library's version, and with the same seed the first 1 000 of 5 000 are those of 1 000.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from models.errors import UserError
from t2i.data import Caption, CaptionedImage, SourceConfig, match_images, read_captioned_images, read_ids
from t2i.data.source import CAPTIONS_ALONE, resolve_format
from t2i.evaluate.caption_sets import CaptionSet
from t2i.evaluate.config import MIN_IMAGES, EvaluateConfig
from t2i.logs import get_logger
from t2i.storage import filesystem_for, write_file

T = TypeVar("T")
log = get_logger("evaluate")

NAMED = 3
"""Missing images that the log names."""


class TooFewCaptionsError(UserError):
    """A caption set is too small for the distances that are asked for."""


class NoReferenceError(UserError):
    """There are no images to compare with, or none that the captions describe."""


def choose_captions(caption_set: CaptionSet, config: EvaluateConfig) -> list[Caption]:
    """Return the captions of a set that are evaluated, in its order: see :func:`pick_captions`.

    Where they are compared with images, ``image_id`` is the id in ``caption_set.image_source`` of those that are there.

    Raises:
        DataError: the source cannot be read.
        TooFewCaptionsError: they are to be compared with images and there are fewer than :data:`MIN_IMAGES`.
        NoReferenceError: none of the images is there.
    """
    images = read_captioned_images(caption_set.source)
    captions = pick_captions(images, config.pick, config.captions, config.seed)
    total = sum(len(image.texts) for image in images)
    message = "%s: %d of the %d captions of %d images are drawn (pick=%s, captions=%s)"
    log.info(message, caption_set.name, len(captions), total, len(images), config.pick, config.captions)
    if caption_set.images and len(captions) < MIN_IMAGES:
        raise TooFewCaptionsError(
            f"sets: {caption_set.name} has {len(captions)} captions to compare with images: "
            f"use at least {MIN_IMAGES}, or images=false."
        )
    if caption_set.images and resolve_format(caption_set.image_source) in CAPTIONS_ALONE:
        raise NoReferenceError(
            f"sets: {caption_set.name} has captions but no images to compare with: name their folder or list in "
            "sets.reference, or set images=false."
        )
    return _with_reference(caption_set.name, caption_set.reference, captions) if caption_set.reference else captions


def _with_reference(name: str, reference: SourceConfig, captions: Sequence[Caption]) -> list[Caption]:
    """Return captions with the ids that their images have in another source; how many are missing is logged.

    Raises:
        NoReferenceError: all are missing.
    """
    wanted = list(dict.fromkeys(caption.image_id for caption in captions))
    found = match_images(wanted, read_ids(reference))
    missing = [image_id for image_id in wanted if image_id not in found]
    few = ", ".join(missing[:NAMED])
    if not found:
        raise NoReferenceError(
            f"sets.reference of {name} is {reference.path}: it has none of the {len(wanted)} images that the captions "
            f"describe, such as {few}, so give the folder or list that holds them."
        )
    if missing:
        message = "%s: %d of %d images are not in %s and not compared with, such as %s."
        log.warning(message, name, len(missing), len(wanted), reference.path, few)
    return [replace(caption, image_id=found.get(caption.image_id, caption.image_id)) for caption in captions]


def pick_captions(images: Sequence[CaptionedImage], pick: str, count: int | None, seed: int) -> list[Caption]:
    """Return ``count`` captions, all if there are no more or ``count`` is None, in the order of the images.

    ``pick`` says from what they are drawn: ``first`` and ``random`` draw images, and take the first caption of each or
    one by the seed; ``all`` draws from the captions of all images.
    """
    if pick == "all":
        pool = [caption for image in images for caption in image.all()]
        return _draw(pool, count, seed, lambda caption: (caption.image_id, caption.text))
    drawn = _draw(images, count, seed, lambda image: (image.image_id,))
    return [image.one(_random_caption(image, seed) if pick == "random" else 0) for image in drawn]


def sample_captions(captions: Sequence[Caption], count: int | None, seed: int) -> list[Caption]:
    """Return ``count`` captions drawn at random with ``seed``, in their original order; all if ``count`` is None."""
    return _draw(captions, count, seed, lambda caption: (caption.id,))


def _draw(items: Sequence[T], count: int | None, seed: int, names: Callable[[T], Sequence[str]]) -> list[T]:
    """Return ``count`` of the items, those whose names hash lowest with the seed, in their order."""
    if count is None or count >= len(items):
        return list(items)
    chosen = heapq.nsmallest(count, range(len(items)), key=lambda i: _rank(seed, *names(items[i])))
    return [items[i] for i in sorted(chosen)]


def _random_caption(image: CaptionedImage, seed: int) -> int:
    return min(range(len(image.texts)), key=lambda k: _rank(seed, image.image_id, image.texts[k]))


def _rank(seed: int, *names: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, *names]).encode()).digest()


def write_captions(uri: str, captions: Sequence[Caption]) -> None:
    """Write the chosen captions as a CSV ``id,image_id,caption``, which other tools read.

    As a set's source, with the same ``pick``, it chooses exactly these captions.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("id", "image_id", "caption"), *((c.id, c.image_id, c.text) for c in captions)])
    write_file(*filesystem_for(uri), text.getvalue().encode())


def reference_ids(caption_set: CaptionSet, own: Sequence[str], config: EvaluateConfig) -> list[str]:
    """Return the ids of the images in ``caption_set.image_source`` that drawn ones are compared with.

    ``own`` are the images that the chosen captions describe; of several captions each counts once.

    Raises:
        DataError: the source cannot be read.
    """
    if config.reference_images == "same":
        return list(dict.fromkeys(own))
    return read_ids(caption_set.image_source)
