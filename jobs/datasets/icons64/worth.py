"""Which candidates are worth drawing: things, no brands, none of one name too often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable

from icons64.candidates import Candidate
from icons64.library import Library
from icons64.names import category_words, is_brand, is_interface
from icons64.wordnet import WordNet
from pictograms.emojibase import slug

BRAND_SETS = ("simple-icons", "logos", "cib", "fa7-brands", "bxl", "devicon", "skill-icons")
"""Sets of logos, whose names are brands."""
BRAND_CATEGORIES = frozenset(("brand", "brands", "logo", "logos"))
MOST, MOST_IN_STYLE = 24, 6
"""The most interface icons of one name, and the most icons of one name in one style."""


class Worth:
    """Judges candidates, by the names of logos and by WordNet."""

    def __init__(self, library: Library, wordnet: WordNet) -> None:
        self._library = library
        self._wordnet = wordnet
        found = {slug(name).replace("-", " ") for prefix in BRAND_SETS for name in library.icon_set(prefix).names}
        self._brands = frozenset(name for name in found if name and not wordnet.is_thing(name))

    def chosen(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return the candidates to draw, in their order."""
        return most_of_a_name([candidate for candidate in candidates if self.shows_a_thing(candidate)])

    def shows_a_thing(self, candidate: Candidate) -> bool:
        """Return whether a drawing is of something one can see, and no logo."""
        kind, text = candidate.style.kind, candidate.phrase
        if kind in ("emoji", "flags"):
            return True
        category = self._library.icon_set(candidate.style.set).categories.get(candidate.icon, "")
        names = self._brands if kind == "interface" else frozenset()
        if is_brand(text, names) or BRAND_CATEGORIES & set(category_words(category)):
            return False
        if kind == "things":
            return len(text) > 2
        return not is_interface(text) and (kind == "colour" or self._wordnet.is_thing(text))


def most_of_a_name(candidates: list[Candidate]) -> list[Candidate]:
    """Return candidates without those of a name beyond :data:`MOST_IN_STYLE` and, of interface icons, :data:`MOST`."""
    icons = _limited(candidates, MOST_IN_STYLE, lambda c: None if c.style.kind == "emoji" else (c.style, c.phrase))
    return _limited(icons, MOST, lambda c: c.phrase if c.style.kind == "interface" else None)


def _limited(candidates: list[Candidate], most: int, key: Callable[[Candidate], Hashable]) -> list[Candidate]:
    """Return candidates with at most ``most`` of each key, chosen by their ids; without a key (None) all stay."""
    groups: dict[Hashable, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[key(candidate)].append(candidate)
    everything = groups.pop(None, [])
    chosen = [candidate for group in groups.values() for candidate in sorted(group, key=lambda c: c.rank)[:most]]
    kept = {candidate.id for candidate in everything + chosen}
    return [candidate for candidate in candidates if candidate.id in kept]
