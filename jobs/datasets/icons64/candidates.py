"""All drawings that the table of sets offers: what each shows, and what it may be called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from icons64.captions import unique
from icons64.colours import colour_for
from icons64.emoji_names import EmojiNames
from icons64.flags import flag_concept
from icons64.heldout import HeldOut
from icons64.library import Library
from icons64.names import category_words, is_brand, phrase, words
from icons64.sets import Style, check_license, taken
from pictograms.emojibase import GROUPS, Emojibase, clean, keywords, slug, without_tone

CODED = ("twemoji", "noto")
"""Sets that say the code points of their icons, and so name those of other sets."""
OTHERS = 2


@dataclass(frozen=True)
class Candidate:
    """A drawing: an icon of a style, what it shows, and ``colour`` if it has none of its own."""

    id: str
    style: Style
    icon: str
    concept: str
    group: str
    phrase: str
    others: tuple[str, ...]
    keywords: tuple[str, ...]
    colour: str

    @property
    def rank(self) -> bytes:
        """A number that follows from the id alone, to choose by."""
        return sha256(self.id.encode()).digest()


class Catalog:
    """Describes the icons of styles, but those that are held out."""

    def __init__(self, library: Library, emojibase: Emojibase, held_out: HeldOut, styles: tuple[Style, ...]) -> None:
        self._library = library
        self._styles = styles
        self._emoji = {code: entry for code, entry in emojibase.entries.items() if "group" in entry}
        self._names = EmojiNames(emojibase, [library.data(prefix) for prefix in CODED])
        self._held_out = held_out
        self._concept_of_label = {slug(entry["label"]): code for code, entry in reversed(self._emoji.items())}

    def all(self) -> Iterator[Candidate]:
        """Yield every drawing of every style that may be trained on, each set's licence checked."""
        for style in self._styles:
            check_license(style, self._library.icon_set(style.set))
            found = [self._describe(style, name, icon) for name, icon in self._distinct(style).items()]
            yield from one_tone([candidate for candidate in found if candidate])

    def _distinct(self, style: Style) -> dict[str, str]:
        """Return name -> icon without the second of two equal drawings."""
        icons = self._library.icon_set(style.set).icons
        first: dict[str, tuple[str, str]] = {}
        for name, icon in sorted(taken(style, self._library.icon_set(style.set).names).items()):
            first.setdefault(icons[icon]["body"], (name, icon))
        return dict(first.values())

    def _describe(self, style: Style, name: str, icon: str) -> Candidate | None:
        """Return what an icon shows; None if that is unknown or held out."""
        if style.kind == "emoji":
            return self._emoji_icon(style, name, icon, self._emoji_concept(style, name, icon))
        if style.kind == "flags":
            return self._emoji_icon(style, name, icon, flag_concept(name))
        return self._other_icon(style, name, icon)

    def _emoji_concept(self, style: Style, name: str, icon: str) -> str:
        return self._library.code_points(style.set).get(icon) or self._names.find(name) or ""

    def _emoji_icon(self, style: Style, name: str, icon: str, concept: str) -> Candidate | None:
        if concept not in self._emoji or not self._held_out.allows(style.style, style.hand, concept):
            return None
        if style.one_colour and self._group(concept) == "flags":
            return None  # a flag is its colours
        label, british = (clean(self._emoji[concept][field]) for field in ("label", "british"))
        others = [british] if british.lower() != label.lower() else []
        return self._candidate(style, name, icon, concept, label, others)

    def _other_icon(self, style: Style, name: str, icon: str) -> Candidate | None:
        category = self._library.icon_set(style.set).categories.get(icon, "")
        text = phrase(name, category)
        if not text:
            return None
        names = [phrase(other, category) for other in self._library.other_names(style)[icon]]
        others = [other for other in unique(names) if other not in ("", text) and not is_brand(other)][:OTHERS]
        concept = self._concept_of_label.get(slug(text), slug(text))
        return self._candidate(style, name, icon, concept, text, others, telling_words(category))

    def _candidate(
        self, style: Style, name: str, icon: str, concept: str, text: str, others: list[str], words: Iterable[str] = ()
    ) -> Candidate:
        """Return a candidate with the keywords of its emoji, or else ``words``."""
        key = f"{style.style}/{name}"
        return Candidate(
            id=key,
            style=style,
            icon=icon,
            concept=concept,
            group=self._group(concept),
            phrase=text,
            others=tuple(others),
            keywords=tuple(keywords(self._emoji[concept]) if concept in self._emoji else words),
            colour=colour_for(key, text) if style.one_colour else "",
        )

    def _group(self, concept: str) -> str:
        """Return the Unicode group of an emoji, ``icons`` for anything else."""
        return GROUPS[self._emoji[concept]["group"]] if concept in self._emoji else "icons"


def telling_words(category: str) -> list[str]:
    """Return the words of a category that say something of a drawing."""
    return [word for word in category_words(category) if word not in words()["dull"]]


def one_tone(found: list[Candidate]) -> list[Candidate]:
    """Return candidates with one skin tone of each emoji, beside the one without."""
    groups: dict[tuple[str, bool], list[Candidate]] = defaultdict(list)
    for candidate in found:
        base = without_tone(candidate.concept)
        toned = base != candidate.concept
        groups[base if toned else candidate.id, toned].append(candidate)
    return [min(group, key=lambda candidate: candidate.rank) for group in groups.values()]
