"""Names of icons as English phrases, and which of them tell of a thing one can see; words.yaml has the words."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pictograms.emojibase import slug

CATEGORY_WORD = re.compile(r"[A-Z][a-z]+|[A-Z]+(?![a-z])|[a-z]+")
NUMBER = re.compile(r"^\d+(-|$)|-\d{3,}$")
"""A number that is no count of variants."""
MOST_WORDS = 7


@cache
def words() -> dict[str, Any]:
    """Return the lists of words.yaml; ``misspelt`` is a mapping."""
    found: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "words.yaml").read_text())
    return found


def category_words(category: str) -> list[str]:
    """Return the words of a set's category, which may be ``FoodDrink`` or ``Food & Drink``."""
    return [word.lower() for word in CATEGORY_WORD.findall(category)]


def phrase(name: str, category: str = "") -> str:
    """Return an icon's name as an English phrase: without its category, its number, or how it is drawn.

    ::

        food-drink-coffee-cup-2   of FoodDrink    coffee cup
        tree-alt                                  tree
        7-above-water                             nothing: what counts is the number
    """
    prefix = "-".join(category_words(category))
    name = slug(name.removeprefix(f"{prefix}-"))
    if NUMBER.search(name):
        return ""
    found = [corrected(word) for word in name.split("-")]
    found = [word for word in found if word]
    while len(found) > 1 and found[-1] in words()["variants"]:
        found.pop()
    return " ".join(found)


def corrected(word: str) -> str:
    """Return a word spelt right and without the number of its variant: ``tree2`` is a ``tree``, and ``2`` nothing."""
    if word in words()["numbered"]:
        return word
    unnumbered = "" if re.match(r"\d", word) else re.sub(r"\d+$", "", word)
    return str(words()["misspelt"].get(unnumbered, unnumbered))


def is_brand(text: str, brands: frozenset[str] = frozenset()) -> bool:
    """Return whether a phrase is the name of one of ``brands``, or holds a well-known one."""
    return text in brands or text in words()["ambiguous"] or not set(text.split()).isdisjoint(words()["brands"])


def is_interface(text: str) -> bool:
    """Return whether a phrase tells of an interface rather than of a thing, or is no phrase."""
    parts = text.split()
    return (
        not set(parts).isdisjoint(words()["interface"]) or not re.search(r"[a-z]{3}", text) or len(parts) > MOST_WORDS
    )
