"""Find the images of one source among those of another, whose ids may be written otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable

from t2i.data.captioned import file_id

COCO_NAME = re.compile(r"(?:(?:.*/)?COCO_[a-z]+20\d\d_|[a-z]+20\d\d/)?0*(\d+)")
"""A number alone, in a folder such as val2017, or after COCO_val2014_."""


def match_images(wanted: Iterable[str], available: Iterable[str]) -> dict[str, str]:
    """Return, for each of the ids in ``wanted`` that is among ``available``, the id it has there.

    Equal ids are the same image. Else ids that are equal without image suffix; or, where both are names of COCO's
    images, without folder, prefix and zeros: 391895 and ``val2014/COCO_val2014_000000391895.jpg`` are the same image.
    An id that may be two images is left out.
    """
    known = dict.fromkeys(available)
    by_key: dict[str, list[str]] = {}
    for name in known:
        by_key.setdefault(_key(name), []).append(name)
    found = {name: [name] if name in known else by_key.get(_key(name), []) for name in wanted}
    return {name: same[0] for name, same in found.items() if len(same) == 1}


def _key(name: str) -> str:
    """Return the number in the name of one of COCO's images, without leading zeros; another id without image suffix."""
    name = file_id(name)
    match = COCO_NAME.fullmatch(name)
    return match[1] if match else name
