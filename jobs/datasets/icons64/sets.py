"""The table of icon sets, and which icons of a set have a style."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pictograms.iconify import IconSet

TABLE = Path(__file__).parent / "sets.yaml"


@dataclass(frozen=True)
class Style:
    """A line of sets.yaml, which says what the fields mean."""

    kind: str
    set: str
    style: str
    license: str
    phrase: str
    look: str
    take: str = "*"
    leave: str = ""
    hand: str = ""

    @property
    def one_colour(self) -> bool:
        """Whether the drawings have no colours of their own."""
        return self.kind in ("things", "interface") or self.style in ("emojione-mono", "fluent-contrast")


@cache
def styles() -> tuple[Style, ...]:
    """Return all styles, in the order of the table."""
    table: dict[str, list[dict[str, Any]]] = yaml.safe_load(TABLE.read_text())
    return tuple(Style(kind=kind, **line) for kind, lines in table.items() for line in lines)


def check_license(style: Style, icons: IconSet) -> None:
    """Check that a set still has the licence under which it was chosen.

    Raises:
        SystemExit: it has another.
    """
    found = icons.info.get("license", {}).get("spdx")
    if found != style.license:
        raise SystemExit(
            f"{style.set} is now under {found}, in sets.yaml under {style.license}: read that licence, then correct or "
            "remove the line."
        )


def taken(style: Style, icons: Iterable[str]) -> dict[str, str]:
    """Return name -> icon for those icons of a set that a style takes; of several sizes the largest."""
    pattern = re.compile(re.escape(style.take).replace(r"\*", "(?P<name>.+)").replace(r"\{size\}", r"(?P<size>\d+)"))
    left_out = set(style.leave.split())
    found: dict[str, tuple[int, str]] = {}
    for icon in icons:
        match = pattern.fullmatch(icon)
        if not match or left_out & set(icon.split("-")):
            continue
        size = int(match.groupdict().get("size") or 0)
        name = match["name"]
        if name not in found or size > found[name][0]:
            found[name] = size, icon
    return {name: icon for name, (_, icon) in found.items()}


def licenses() -> tuple[str, ...]:
    """Return the licences of all styles, each once, in the order of the table."""
    return tuple(dict.fromkeys(style.license for style in styles()))
