"""How configuration dataclasses declare their fields: each default with its help text, bounds and kind of path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

AUTO = "auto"
"""A word for a setting that the code chooses; for a number that may be left out it says the same as leaving it out."""

LARGEST = 2**63 - 1
"""The largest whole number that a setting takes: stores and tensors hold 64 bits."""


@dataclass(frozen=True)
class Bounds:
    """The finite numbers that a setting takes; ``above`` and ``below`` are themselves excluded."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def allow(self, value: float) -> bool:
        """Return whether ``value`` is finite and within the bounds."""
        finite = abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)
        return (
            finite
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least} to {self.at_most}"
        words = {
            "at least": self.at_least,
            "more than": self.above,
            "at most": self.at_most,
            "less than": self.below,
        }
        given = [f"{word} {number}" for word, number in words.items() if number is not None]
        return " and ".join(given) or "a finite number"


def setting(
    default: Any,
    meaning: str,
    *,
    path: Literal["read", "written", "file"] | None = None,
    resolve: Callable[[str], str] | None = None,
    **bounds: float,
) -> Any:
    """Return a dataclass field with a ``default``, a value or a factory, and the help text ``meaning``.

    ``python jobs/X.py --help`` prints it.

    Args:
        default: the value, or a function that makes it.
        meaning: what ``--help`` says.
        path: for text that is a path or URI, what the job does there; it is loaded absolute. ``read``: nothing else;
            ``written``: it also writes, into this directory; ``file``: it writes this file, anew if it is there.
        resolve: for a path, returns what it stands for now, which is loaded in its place.
        **bounds: ``at_least``, ``above``, ``at_most``, ``below``: which numbers are taken, NaN and infinity never.
    """
    metadata = {"help": meaning, "path": path, "resolve": resolve, "bounds": Bounds(**bounds)}
    if isinstance(default, Callable):  # type: ignore[arg-type]
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def out_of_bounds(value: Any, bounds: Bounds) -> str | None:
    """Return in words why a value is refused; None if it is within ``bounds`` or no number.

    Of a list, every number is checked.
    """
    numbers = value if isinstance(value, list) else [value]
    wrong = [each for each in numbers if isinstance(each, int | float) and not bounds.allow(each)]
    largest = f"at most {LARGEST}" if wrong and isinstance(wrong[0], int) and wrong[0] > LARGEST else bounds
    return f"{'has' if isinstance(value, list) else 'is'} {wrong[0]}: use {largest}." if wrong else None


def settings_out_of_bounds(settings: Any) -> Iterator[tuple[str, str]]:
    """Yield name and sentence of every number of a dataclass that is out of its bounds."""
    for each in fields(settings):
        if problem := out_of_bounds(getattr(settings, each.name), each.metadata.get("bounds", Bounds())):
            yield each.name, f"{each.name} {problem}"
