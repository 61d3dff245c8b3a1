"""The icon sets of the unpacked ``@iconify/json``."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from icons64.sets import Style, taken
from pictograms.emojibase import concept
from pictograms.iconify import IconSet


class Library:
    """Icon sets by prefix; what was asked for once is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.icon_set = cache(self._icon_set)
        self.code_points = cache(self._code_points)
        self.other_names = cache(self._other_names)

    def data(self, prefix: str) -> dict[str, Any]:
        """Return the JSON of a set."""
        found: dict[str, Any] = json.loads((self._folder / "json" / f"{prefix}.json").read_text())
        return found

    def _icon_set(self, prefix: str) -> IconSet:
        return IconSet(self.data(prefix))

    def _code_points(self, prefix: str) -> dict[str, str]:
        """Return icon -> concept, where a set of emoji says so."""
        return {name: concept(code) for code, name in self.data(prefix).get("chars", {}).items()}

    def _other_names(self, style: Style) -> dict[str, list[str]]:
        """Return icon -> further names, those of aliases and of equal drawings."""
        icons = self.icon_set(style.set)
        chosen = taken(style, icons.names)
        by_body: dict[str, list[str]] = defaultdict(list)
        for name, icon in chosen.items():
            by_body[icons.icons[icon]["body"]].append(name)
        found = {icon: list(by_body[icons.icons[icon]["body"]]) for icon in chosen.values()}
        for name, alias in taken(style, icons.aliases).items():
            found.setdefault(icons.aliases[alias], []).append(name)
        return found
