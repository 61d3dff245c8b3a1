"""Which of the curated drawings are held out to validate on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from pictograms.emojibase import without_tone
from t2i.curate.hashing import perceptual_hash
from t2i.curate.neighbours import hash_neighbours

VAL = 1000
STYLES = 4
"""In how many styles, its own among them, a concept must be drawn for one of its drawings to be held out."""
BITS = 6
"""Outlines that differ in at most this many of 64 bits count as the same drawing in another colour."""


@dataclass(frozen=True)
class Drawn:
    """What the split needs to know of a drawing; ``outline`` is the hash of where it is drawn."""

    id: str
    style: str
    concept: str
    outline: int

    @property
    def rank(self) -> bytes:
        return sha256(f"val {self.id}".encode()).digest()


def validation_ids(drawings: list[Drawn]) -> set[str]:
    """Return the ids to validate on: at most one of a concept, which is left in other styles and other drawings."""
    alike = _alike(drawings)
    by_concept: dict[str, list[Drawn]] = defaultdict(list)
    for drawing in drawings:
        by_concept[without_tone(drawing.concept)].append(drawing)
    firsts = []
    for group in by_concept.values():
        unlike = [drawing for drawing in group if drawing.id not in alike]
        if len({drawing.style for drawing in group}) >= STYLES and unlike:
            firsts.append(min(unlike, key=lambda drawing: drawing.rank))
    return {drawing.id for drawing in sorted(firsts, key=lambda drawing: drawing.rank)[:VAL]}


def outline(pixels: np.ndarray) -> int:
    """Return the perceptual hash of where a picture, uint8 [H, W, 3], is not white."""
    drawn = (pixels.min(axis=2, keepdims=True) < 245).astype(np.uint8) * 255
    return perceptual_hash(np.repeat(drawn, 3, axis=2))


def _alike(drawings: Iterable[Drawn]) -> set[str]:
    """Return the ids of drawings that have the outline of another."""
    ids = [drawing.id for drawing in drawings]
    hashes = np.array([drawing.outline for drawing in drawings], np.uint64)
    found = hash_neighbours(hashes, np.zeros((len(ids), 1), np.uint8), BITS, 0)
    return {ids[row] for row in np.concatenate([found.first, found.second]).tolist()}
