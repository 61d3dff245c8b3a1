"""What Unicode's data say of an emoji: its English name, keywords and group, as npm's ``emojibase-data`` has them."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cached_property
from pathlib import Path
from typing import Any

PACKAGE = "emojibase-data@17.0.0"
GROUPS = [
    "smileys",
    "people",
    "component",
    "animals-nature",
    "food-drink",
    "travel",
    "activities",
    "objects",
    "symbols",
    "flags",
]
TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")


class Emojibase:
    """The entries of all emoji, from the folder of the unpacked package."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """Concept -> entry of emojibase, with the British label as ``british``."""
        entries, british = (self._flat(language) for language in ("en", "en-gb"))
        return {code: entry | {"british": british[code]["label"]} for code, entry in entries.items()}

    def _flat(self, language: str) -> dict[str, dict[str, Any]]:
        entries = json.loads((self._folder / language / "data.json").read_text())
        skins = [skin for entry in entries for skin in entry.get("skins", [])]
        return {concept(entry["hexcode"]): entry for entry in entries + skins}


def concept(hexcode: str) -> str:
    """Return code points in lower case without the variation selector."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def without_tone(code: str) -> str:
    """Return the concept without its skin tones; a tone by itself stays what it is."""
    return "-".join(part for part in code.split("-") if part not in TONES) or code


def slug(text: str) -> str:
    """Return a label as icon sets spell it."""
    plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "").replace(".", "").replace("&", "and")).strip("-")


def clean(label: str) -> str:
    """Return a label of CLDR (Unicode's names) as plain English."""
    for typographic, straight in (("“", '"'), ("”", '"'), ("’", "'"), ("flag: ", "flag of "), ("keycap: ", "keycap ")):
        label = label.replace(typographic, straight)
    return label


def keywords(entry: dict[str, Any]) -> list[str]:
    """Return an emoji's keywords that are words."""
    return [tag for tag in entry.get("tags", []) if re.fullmatch(r"\d*[^\W\d][^\d+]+", tag)]
