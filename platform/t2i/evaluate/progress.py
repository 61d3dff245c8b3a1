"""How far a stage of the evaluation is: a line with its rate, the time left, and which part takes the time."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 10.0
"""Seconds between printed lines where the output is no terminal."""

SECONDS = "_seconds"
"""End of the names under which stages tell how long they took."""


class ShardProgress:
    """Shows how many of ``total`` shards are finished: a bar on a terminal, else a line every 10 s.

    ``actors`` maps the parts of the stage (``generate``) to the number of their actors. The part whose actors were busy
    for the largest share of the time is the bottleneck.
    """

    def __init__(self, title: str, total: int, done: int, actors: Mapping[str, int]) -> None:
        self._actors = actors
        self._images, self._begun, self._printed = 0, time.monotonic(), 0.0
        self._busy: Counter[str] = Counter()
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, desc=title, unit="shard", leave=True, mininterval=0.5)
        if not self._terminal:
            self._bar.display = lambda *_, **__: None  # type: ignore[method-assign] # lines instead, by _print

    def follow(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield ``rows``, the finished shards, and show each."""
        for row in rows:
            self._images += int(row["images"])
            self._busy.update({name.removesuffix(SECONDS): row[name] for name in row if name.endswith(SECONDS)})
            self._bar.set_postfix_str(self._text(), refresh=False)
            self._bar.update()
            self._print(last=False)
            yield row
        self._print(last=True)
        self._bar.close()

    @property
    def bottleneck(self) -> str:
        """The part that takes longest, divided by its actors; empty before the first shard."""
        shares = {name: seconds / self._actors.get(name, 1) for name, seconds in self._busy.items()}
        return max(shares, key=lambda name: shares[name], default="")

    def _text(self) -> str:
        rate = self._images / max(time.monotonic() - self._begun, 1e-9)
        return f"{rate:.3g} images/s, bottleneck {self.bottleneck}"

    def _print(self, *, last: bool) -> None:
        now = time.monotonic()
        if not self._terminal and (last or now - self._printed >= LINE_SECONDS):
            self._printed = now
            print(str(self._bar), file=sys.stderr, flush=True)
