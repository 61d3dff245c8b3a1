"""The icon sets of Iconify, each one JSON file of SVG bodies with names, aliases and a licence."""

from __future__ import annotations

from functools import cached_property
from typing import Any

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


class IconSet:
    """One icon set, of the JSON that its package holds."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self.icons: dict[str, dict[str, Any]] = data["icons"]
        self.info: dict[str, Any] = data.get("info", {})

    @cached_property
    def names(self) -> list[str]:
        """The names of the icons that the set has not given up, sorted."""
        return sorted(name for name, icon in self.icons.items() if not icon.get("hidden"))

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Other name -> name, of those that are drawn the same way."""
        found = self._data.get("aliases", {})
        return {name: alias["parent"] for name, alias in found.items() if set(alias) <= {"parent", "hidden"}}

    @cached_property
    def categories(self) -> dict[str, str]:
        """Name -> the first category that has it."""
        found = self._data.get("categories", {}).items()
        return {name: category for category, names in reversed(found) for name in names}

    def resolve(self, name: str) -> str:
        """Return an icon's name after following aliases; empty if there is no such icon."""
        while name in self._data.get("aliases", {}):
            name = self._data["aliases"][name]["parent"]
        return name if name in self.icons else ""

    def svg(self, name: str, colour: str | None = None) -> str:
        """Return an icon as SVG; what has no colour of its own is drawn in ``colour``, black by default."""
        icon = self.icons[name]
        width, height = (icon.get(side, self._data.get(side, 16)) for side in ("width", "height"))
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        body = icon["body"].replace("currentColor", colour) if colour else icon["body"]
        if "<animate" in body:  # what fades in later, as raindrops do, belongs to the drawing
            body = body.replace('opacity="0"', 'opacity="1"')
        return f'<svg {NAMESPACES} viewBox="{box}">{body}</svg>'
