"""How far each candidate drafts ahead: rows of a step that nobody needs are dealt out, without tensors or a clock.

The noise of a token is known in advance, so a token follows from those before it. A row may therefore feed a *draft*, a
guess at a token that is not drawn yet: if the guess turns out to be what is drawn, then what this row draws from it is
right as well. Rows that draft change how many tokens a step makes, never which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.errors import UserError
from models.settings import AUTO

OFF = "off"
AUTO_WINDOW = 16
"""The window that ``parallel=auto`` means: few drafts further ahead come true."""

PARALLEL_MEANING = (
    "image tokens of a candidate that one step may make, by slots that are not in use: off, auto or a number; "
    "never changes a token"
)
"""Help text of every ``parallel`` setting."""

MEMORY = 1 / 32
"""Weight of the newest step in a share of drafts that came true."""

WORTHLESS = 0.01
"""Share of drafts at a place that came true below which the place gets no rows."""

TRY_AGAIN = 64
"""A worthless place is tried again in one of so many steps."""


def window_of(parallel: str) -> int:
    """Return the window that a ``parallel`` setting means: the most image tokens of a candidate that a step makes.

    Raises:
        UserError: it is no such setting.
    """
    if parallel == AUTO:
        return AUTO_WINDOW
    if parallel == OFF:
        return 1
    if parallel.isascii() and parallel.isdigit() and 1 <= int(parallel) <= 1024:
        return int(parallel)
    raise UserError(f"parallel is {parallel!r}: use '{OFF}', '{AUTO}' or a number from 1 to 1024.")


@dataclass(frozen=True)
class Share:
    """What a candidate can use: ``most`` drafts, each of which takes ``rows`` rows of a step."""

    most: int
    rows: int = 1


class Drafting:
    """Deals out spare rows, at most ``window`` - 1 drafts to a candidate, by what drafts at each place have been worth.

    Place k is k positions ahead of the first draft. A draft there is worth what it adds to a step: one token, if it and
    all drafts before it come true. That is the less likely the further ahead it is, so first all candidates get a draft
    at place 0, then at place 1, and so on. With 7 rows for three candidates, of which the last is guided and has two
    rows to a draft:

        place     0          1          2
        rows      a b cc     a b        a       one was left at place 1, which c could not use
    """

    def __init__(self, window: int) -> None:
        self._came_true = [1.0] * (window - 1)  # by place: a moving average; hoped for until it is known
        self._deals = 0

    def deal(self, spare: int, shares: Sequence[Share]) -> list[int]:
        """Return how many drafts each candidate gets of ``spare`` rows."""
        self._deals += 1
        drafts = [0] * len(shares)
        for place in range(self._places()):
            for number, share in enumerate(shares):
                if drafts[number] == place < share.most and share.rows <= spare:
                    drafts[number] += 1
                    spare -= share.rows
            if not spare:
                break
        return drafts

    def note(self, results: Iterable[tuple[int, int]]) -> None:
        """Take in a step: of each candidate with drafts how many there were, and how many of them came true."""
        tried, true = [0] * len(self._came_true), [0] * len(self._came_true)
        for drafts, right in results:
            for place in range(drafts):
                tried[place] += 1
                true[place] += place < right
        for place, count in enumerate(tried):
            if count:
                self._came_true[place] += MEMORY * (true[place] / count - self._came_true[place])

    def _places(self) -> int:
        """Return how many places are worth a row: those before the first that is worthless, now and then all."""
        if self._deals % TRY_AGAIN == 0:
            return len(self._came_true)
        worthless = (place for place, share in enumerate(self._came_true) if share < WORTHLESS)
        return next(worthless, len(self._came_true))
