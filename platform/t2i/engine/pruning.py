"""Pruning: candidates are judged part-way, and the hopeless ones stopped. Knows no models."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from models.settings import setting
from t2i.engine.request import CompletedRows
from t2i.sampling import RequestError

Judge = Callable[[str, np.ndarray], np.ndarray]
"""(request id, image tokens int32 [n, r * w] of the first r rows) -> scores [n], the higher the better."""


@dataclass
class PruningParams:
    """When candidates are judged, and how many go on; by default none is ever stopped.

    Candidates [g * group, (g + 1) * group) of a caption are judged together, when the last of them has its first
    ``rows`` rows and on those rows alone, so that which of them survive never depends on slots, company or timing.
    """

    rows: int | None = setting(None, "rows of image tokens after which CLIP judges the candidates; empty: never")
    keep: float = setting(0.5, "share of a group that is finished: those whose previews fit the caption best")
    group: int = setting(16, "candidates of a caption that are judged together; saves most where slots are a multiple")

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise RequestError("pruning.rows", f"pruning.rows is {self.rows}: use 1 or more, or null not to prune.")
        if not 0 < self.keep <= 1:
            raise RequestError("pruning.keep", f"pruning.keep is {self.keep}: use more than 0, up to 1, which is all.")
        if self.group < 2:
            raise RequestError("pruning.group", f"pruning.group is {self.group}: judge at least 2 together.")

    @property
    def prunes(self) -> bool:
        """Whether any candidate is stopped."""
        return self.rows is not None

    def check(self, grid: tuple[int, int], prefix_length: int = 0) -> None:
        """Refuse to judge when there is nothing to tell candidates apart by, or nothing left to save.

        Raises:
            RequestError: ``rows`` is not between the prefix and the last row of the ``grid``.
        """
        height, width = grid
        fewest = prefix_length // width + 1
        if self.rows is not None and not fewest <= self.rows < height:
            given = f", of which the image gives {fewest - 1}" if fewest > 1 else ""
            remedy = f"use {fewest} to {height - 1}" if fewest < height else "do not prune"
            raise RequestError("pruning.rows", f"pruning.rows is {self.rows} of {height}{given}: {remedy}.")

    def count(self, candidates: int) -> int:
        """How many of the ``candidates`` of a caption are finished."""
        return sum(self._count(len(group)) for group in self._groups(candidates)) if self.prunes else candidates

    def best(self, scores: np.ndarray) -> np.ndarray:
        """Scores [n] of one group -> indices int64 of those that go on, ascending; of equals the earlier goes on."""
        return np.sort(np.argsort(-scores, kind="stable")[: self._count(len(scores))])

    def survivors(self, scores: np.ndarray) -> np.ndarray:
        """Scores [n] of all candidates of a caption -> indices int64 of those that go on, ascending."""
        return np.concatenate([group[self.best(scores[group])] for group in self._groups(len(scores))])

    def _groups(self, candidates: int) -> list[np.ndarray]:
        return [np.arange(start, min(start + self.group, candidates)) for start in range(0, candidates, self.group)]

    def _count(self, size: int) -> int:
        return max(1, math.ceil(self.keep * size - 1e-9))  # 0.7 * 10 is a little over 7


class Pruner:
    """Gathers the groups of some requests, id -> candidates, and says whom to drop."""

    def __init__(self, pruning: PruningParams, candidates: Mapping[str, int], width: int, judge: Judge) -> None:
        assert pruning.rows is not None
        self.pruning, self._judge = pruning, judge
        self._candidates = candidates
        self._length = pruning.rows * width
        self._gathered: dict[tuple[str, int], dict[int, np.ndarray]] = defaultdict(dict)

    def update(self, completed: Iterable[CompletedRows]) -> dict[str, list[int]]:
        """Take in what a step brought -> the candidates to drop, by request, of the groups that are now whole."""
        drops: dict[str, list[int]] = defaultdict(list)
        for rows in completed:
            if len(rows.image_tokens) == self._length:
                group = rows.request_id, rows.candidate // self.pruning.group
                self._gathered[group][rows.candidate] = rows.image_tokens
                if len(self._gathered[group]) == self._size(*group):
                    drops[rows.request_id] += self._hopeless(rows.request_id, self._gathered.pop(group))
        return dict(drops)

    def _size(self, request_id: str, group: int) -> int:
        return min(self.pruning.group, self._candidates[request_id] - group * self.pruning.group)

    def _hopeless(self, request_id: str, members: Mapping[int, np.ndarray]) -> list[int]:
        """A group is judged by itself and in its own order: the last bits of a score depend on what is in its batch."""
        candidates = sorted(members)
        scores = self._judge(request_id, np.stack([members[candidate] for candidate in candidates]))
        return np.delete(candidates, self.pruning.best(scores)).tolist()
