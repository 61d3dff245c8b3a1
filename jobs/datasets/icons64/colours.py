"""The named colours that drawings of one colour are drawn in, and that by which a picture of several is called."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

PALETTE = {
    "red": "#d92b2b",
    "orange": "#f0821d",
    "yellow": "#f2c318",
    "green": "#2f9e44",
    "teal": "#119c94",
    "light blue": "#4fb0ee",
    "blue": "#2458d3",
    "purple": "#7b3fbf",
    "pink": "#ee5f9f",
    "brown": "#8a5a33",
    "gray": "#7c828a",
    "black": "#1a1a1a",
}
SPOKEN = {name: name for name in PALETTE} | {
    "grey": "gray",
    "silver": "gray",
    "gold": "yellow",
    "golden": "yellow",
    "white": "black",
}
"""Words of a phrase that say a colour, beside which another would be wrong -> what such a thing is drawn in."""

HUES = (
    (15, "red"),
    (40, "orange"),
    (66, "yellow"),
    (165, "green"),
    (190, "teal"),
    (255, "blue"),
    (290, "purple"),
    (340, "pink"),
    (360, "red"),
)
"""Upper bounds of hues, in degrees."""

DRAWN, GREYISH, DARK = 245, 0.22, 0.55
SHARE = 0.6
"""Share of the drawn pixels that a colour must have for a picture to be called by it."""


def colour_for(key: str, phrase: str) -> str:
    """Return the name of the colour to draw in: that which the phrase says, else one that follows from ``key``."""
    if said := spoken(phrase):
        return SPOKEN[said[0]]
    digest = hashlib.sha256(key.encode()).digest()
    return list(PALETTE)[int.from_bytes(digest[:4], "big") % len(PALETTE)]


def with_colour(colour: str, phrase: str) -> str:
    """Return a phrase that says a colour once: ``red axe``, but ``black flag``; the colour may be empty."""
    return phrase if spoken(phrase) or not colour else f"{colour} {phrase}"


def spoken(phrase: str) -> list[str]:
    """Return the words of a phrase that say a colour."""
    return [word for word in phrase.lower().split() if word in SPOKEN]


def main_colour(image: Image.Image) -> str:
    """Return the colour that most of a picture's drawn pixels have; empty if there is no such hue."""
    hue, saturation, value = np.asarray(image.convert("HSV"), np.float32).reshape(-1, 3).T
    drawn = np.asarray(image).reshape(-1, 3).min(axis=1) < DRAWN
    coloured = drawn & (saturation / 255 > GREYISH)
    names = np.array([name for _, name in HUES])[
        np.searchsorted([bound for bound, _ in HUES], hue[coloured] / 255 * 360)
    ]
    names[(names == "orange") & (value[coloured] / 255 < DARK)] = "brown"
    found, counts = np.unique(names, return_counts=True)
    if not len(found) or counts.max() < SHARE * drawn.sum():
        return ""
    return str(found[counts.argmax()])
