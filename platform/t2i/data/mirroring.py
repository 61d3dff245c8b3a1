"""Whether an image may be mirrored: not if its captions would then be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable

SIDED = re.compile(
    r"\b(left|right|east|west|((anti|counter)-?)?clockwise|arrows?|clock|watch|moon|flag|banner|map|globe"
    r"|letters?|alphabet|abc|text|word|written|writing|signature|font|numbers?|digits?|keycap|button|sign|symbol|question"
    r"|percent|currency|dollar|euro|pound|yen|calendar|notes?|clef)\b|\d"
)
"""Words of captions whose images show left and right, writing, or another thing that is wrong in a mirror."""


def may_be_mirrored(captions: Iterable[str]) -> bool:
    """Return whether no caption speaks of left and right, arrows, writing, flags, clocks, moons or maps."""
    return not any(SIDED.search(caption.lower()) for caption in captions)
