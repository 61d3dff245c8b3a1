"""How far a stage of the evaluation is: its rate, the time left, and which part takes the time."""

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
    """Shows how many of ``total`` shards are finished: a bar on a terminal, else a line every 10 s and at the end.

    ``actors`` maps the parts of the stage (``generate``) to the number of their actors. The part whose actors were busy
    for the largest share of the time is the bottleneck.
    """

    def __init__(self, title: str, total: int, done: int, actors: Mapping[str, int]) -> None:
        self._title, self._total, self._first, self._done = title, total, done, done
        self._actors = actors
        self._images, self._begun, self._shown = 0, time.monotonic(), 0.0
        self._busy: Counter[str] = Counter()

    def follow(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield ``rows``, the finished shards, and show each."""
        for row in rows:
            self._done += 1
            self._images += int(row["images"])
            self._busy.update({name.removesuffix(SECONDS): row[name] for name in row if name.endswith(SECONDS)})
            self._show()
            yield row

    @property
    def bottleneck(self) -> str:
        """The part that takes longest, divided by its actors; empty before the first shard."""
        shares = {name: seconds / self._actors.get(name, 1) for name, seconds in self._busy.items()}
        return max(shares, key=lambda name: shares[name], default="")

    @property
    def line(self) -> str:
        """The line as it is printed."""
        elapsed = time.monotonic() - self._begun
        rate = f"{self._images / max(elapsed, 1e-9):.3g} images/s"
        return tqdm.format_meter(
            self._done,
            self._total,
            elapsed,
            ncols=110,
            prefix=self._title,
            unit=" shards",
            postfix=f"{rate}, bottleneck {self.bottleneck}",
            initial=self._first,
        )

    def _show(self) -> None:
        last, now = self._done == self._total, time.monotonic()
        if sys.stderr.isatty():
            print(f"\r{self.line}\033[K", end="\n" if last else "", file=sys.stderr, flush=True)
        elif last or now - self._shown >= LINE_SECONDS:
            self._shown = now
            print(self.line, file=sys.stderr, flush=True)
