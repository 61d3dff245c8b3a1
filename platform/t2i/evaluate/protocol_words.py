"""The protocol of an evaluation in sentences that need no knowledge of this project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t2i.evaluate.protocols import SENTENCES
from t2i.metrics.features import FID_FILE_HASH

Protocol = Mapping[str, Any]
"""What :func:`t2i.evaluate.protocol_record.protocol` returns."""

HASH_DIGITS = 8
"""Digits of a hash that the sentences show; the list of the protocol has all."""


def in_words(protocol: Protocol) -> list[str]:
    """Return paragraphs: conventions, what was drawn and left out, with what it was compared, how it was measured."""
    parts = (_conventions, _drawn, _left_out, _compared, _measured)
    paragraphs = [" ".join(part(protocol)) for part in parts]
    return [paragraph for paragraph in paragraphs if paragraph]


def is_fid(protocol: Protocol) -> bool:
    """Return whether features come from the Inception of FID, so that distances may be called FID."""
    return str(protocol["extractor"]["weight_hash"]).startswith(FID_FILE_HASH)


def _conventions(protocol: Protocol) -> Iterator[str]:
    if protocol["conventions"]:
        yield f"Conventions: {protocol['conventions'].rstrip('.')}."
    if protocol["departures"]:
        yield f"Here {'; '.join(protocol['departures'])}."


def _drawn(protocol: Protocol) -> Iterator[str]:
    n, candidates = protocol["captions"], protocol["candidates"]
    asked = protocol["captions_asked_for"]
    chosen = f", chosen at random with seed {protocol['seed']}," if asked is not None and asked <= n else ""
    begun = "begun" if protocol["pruning"] else "drawn"
    yield f"{counted(n, 'caption')} of {protocol['source']}{chosen} had {counted(candidates, 'image')} {begun} for each"
    sampling = protocol["sampling"]
    guidance = f" and guidance {sampling['guidance']:g}" if sampling["guidance"] != 1 else ""
    yield f"at temperature {sampling['temperature']:g}{guidance}."
    if pruning := protocol["pruning"]:
        yield f"After {pruning['rows']} rows of image tokens CLIP stopped all but {pruning['finished']} of them."
    clip = protocol["models"]["clip"][:HASH_DIGITS]
    yield SENTENCES["pick"][protocol["pick"]]
    if candidates > 1:
        yield f"A CLIP (weights {clip}) picked the best image of each caption, and that one is measured."


def _left_out(protocol: Protocol) -> Iterator[str]:
    truncated, missing = protocol["captions_truncated"], protocol["real_images_left_out"]
    yield "No caption was left out;"
    if truncated:
        yield f"{truncated} {'was' if truncated == 1 else 'were'} too long for the prior and cut."
    else:
        yield "none was too long for the prior."
    if missing and missing["count"]:
        names = ", ".join(missing["first"]) + (" and others" if missing["count"] > len(missing["first"]) else "")
        yield (
            f"{counted(missing['count'], 'real image')} of these captions could not be used ({names}): those that"
            f" cannot be read are listed with the reason in {missing['unreadable']}."
        )


def _compared(protocol: Protocol) -> Iterator[str]:
    height, width = protocol["drawn_image_size"]
    drawn = f"The drawn images, {height} × {width} px, are compared with"
    if protocol["reference"]:
        yield f"{drawn} the statistics in {protocol['reference']}."
    elif protocol["real_images"] is None:
        yield f"{drawn} their captions alone: the set has no images."
    else:
        yield f"{drawn} {_which_real(protocol)}."
        yield SENTENCES["crop"][protocol["crop"]]
        yield f"Features are taken of both sides at {protocol['image_size']} × {protocol['image_size']} px."
    if len(protocol["blur_radii"]) > 1:
        radii = ", ".join(f"{radius:g}" for radius in protocol["blur_radii"])
        yield f"Both sides are also blurred alike (Gaussian, radii {radii} px)."


def _which_real(protocol: Protocol) -> str:
    """Return in words which images the drawn ones are compared with."""
    images = counted(protocol["real_images"], "real image")
    return {
        "same": f"{images} that the captions describe",
        "all": f"{images} of {protocol['real_images_source']}, whichever captions were drawn",
        "train": f"{images} of {protocol['real_images_source']}, which holds training images",
    }[protocol["reference_images"]]


def _measured(protocol: Protocol) -> Iterator[str]:
    extractor = protocol["extractor"]
    yield (
        f"Distances compare features of {extractor['name']} (weights {extractor['weight_hash'][:HASH_DIGITS]}), whose"
        f" input is made by preset {extractor['preset']}: {extractor['resize']}."
    )
    if is_fid(protocol):
        yield "These are the weights that FID is defined by. A FID compares only with one of the same protocol."
    else:
        yield "That is not the network of FID: the distances are called FD, and none compares with a published FID."


def counted(n: int, noun: str) -> str:
    """Return ``1 caption`` or ``2 captions``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
