"""Who made the icon sets, and under which licence, as their packages say it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from icons64.library import Library
from icons64.packages import ICONS
from icons64.sets import Style

FILE = Path(__file__).parent / "ATTRIBUTION.md"
HEAD = f"""# Who made the drawings

All come from npm's `{ICONS}`. They were changed: trimmed, scaled to 64 x 64 pixels, put on white, and those without
colours of their own drawn in one. Game Icons are by Lorc, Delapouite and others: https://game-icons.net. Keep this page
with any copy, and the texts of the licences in `LICENSES/` and `../emoji64/LICENSES/`.

| set | styles here | author | licence |
|---|---|---|---|
"""


def write_attribution(library: Library, used: Iterable[Style], file: Path = FILE) -> None:
    """Write the table of the sets of which styles are used."""
    by_set: dict[str, list[str]] = {}
    for style in used:
        by_set.setdefault(style.set, []).append(style.style)
    file.write_text(HEAD + "".join(_line(library, prefix, names) for prefix, names in sorted(by_set.items())))


def _line(library: Library, prefix: str, names: list[str]) -> str:
    info = library.icon_set(prefix).info
    author, license_ = info["author"], info["license"]
    cells = [
        info["name"],
        ", ".join(names),
        _link(author["name"], author.get("url")),
        _link(license_["spdx"], license_.get("url")),
    ]
    return f"| {' | '.join(cells)} |\n"


def _link(text: str, url: str | None) -> str:
    return f"[{text}]({url})" if url else text
