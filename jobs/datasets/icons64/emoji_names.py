"""Which emoji an icon of an emoji set is: by the set's code points, or by its name."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from pictograms.emojibase import TONES, Emojibase, concept, slug, without_tone
from pictograms.iconify import IconSet

TONE = re.compile(r"-(light|medium-light|medium|medium-dark|dark)(?:-skin-tone)?$")
TONE_OF = dict(zip(("light", "medium-light", "medium", "medium-dark", "dark"), TONES, strict=True))


class EmojiNames:
    """Finds the concept of an emoji by a name; ``coded`` are sets that say the code points of their icons."""

    def __init__(self, emojibase: Emojibase, coded: list[dict[str, Any]]) -> None:
        self._entries = emojibase.entries
        self._coded = coded

    @cached_property
    def _by_name(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for data in self._coded:
            names = {name: concept(code) for code, name in data["chars"].items()}
            names |= {alias: names.get(parent, "") for alias, parent in IconSet(data).aliases.items()}
            found |= {name: code for name, code in names.items() if code in self._entries}
        found |= {slug(entry["british"]): code for code, entry in self._entries.items()}
        found |= {slug(entry["label"].replace("flag: ", "flag for ")): code for code, entry in self._entries.items()}
        return found | {slug(entry["label"]): code for code, entry in self._entries.items()}

    @cached_property
    def _by_letters(self) -> dict[str, str]:
        """The same by names without hyphens, as Firefox's emoji have them."""
        return {name.replace("-", ""): code for name, code in self._by_name.items()}

    def find(self, name: str) -> str | None:
        """Return the concept of a name, None if there is no such emoji."""
        if found := self._by_name.get(name) or self._by_letters.get(name):
            return found
        if match := TONE.search(name):
            return self._toned(name[: match.start()], TONE_OF[match[1]])
        unnumbered = re.sub(r"-\d+$", "", name)
        return self.find(unnumbered) if unnumbered != name else None

    @cached_property
    def _toned_concepts(self) -> dict[tuple[str, str], str]:
        """(Concept without tone, its only tone) -> concept."""
        found = {}
        for code in self._entries:
            tones = [part for part in code.split("-") if part in TONES]
            if len(set(tones)) == 1:
                found[without_tone(code), tones[0]] = code
        return found

    def _toned(self, name: str, tone: str) -> str | None:
        base = self.find(name)
        return self._toned_concepts.get((base, tone)) if base else None
