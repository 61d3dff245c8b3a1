"""Pruning: score candidates part-way and stop those with the lowest scores. It does not depend on the models."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from models.settings import setting, settings_out_of_bounds
from t2i.engine.request import PartialCandidate
from t2i.sampling import RequestError

Judge = Callable[[str, np.ndarray], np.ndarray]
"""(request id, image tokens int32 [n, r * w] of the first r rows) -> scores [n], the higher the better."""


@dataclass
class PruningParams:
    """When candidates are scored and what share of them is finished; by default all are.

    The candidates of a caption are scored in groups: candidates [g * group, (g + 1) * group) together, each by its
    first ``rows`` rows of image tokens, once all of them have so many. Which of them go on therefore depends on these
    settings alone, not on slots, other requests or timing.
    """

    rows: int | None = setting(
        None, "rows of image tokens after which CLIP scores the candidates; empty: never", at_least=1
    )
    keep: float = setting(
        0.5, "share of a group that is finished: the candidates whose previews fit the caption best", above=0, at_most=1
    )
    group: int = setting(
        16, "candidates of a caption scored together; saves most if the slots are a multiple of it", at_least=2
    )

    def __post_init__(self) -> None:
        for name, sentence in settings_out_of_bounds(self):
            raise RequestError(f"pruning.{name}", f"pruning.{sentence}")

    @property
    def prunes(self) -> bool:
        """Whether candidates are scored part-way at all."""
        return self.rows is not None

    def check(self, grid: tuple[int, int], prefix_length: int = 0) -> None:
        """Check ``rows`` against the ``grid`` (h, w) and against a prefix that all candidates share.

        After the rows of the prefix alone all candidates look the same; after the last row nothing is left to save.

        Raises:
            RequestError: ``rows`` ends within the prefix, or is the whole grid.
        """
        height, width = grid
        first_row = prefix_length // width + 1
        if self.rows is not None and not first_row <= self.rows < height:
            given = f", of which the image gives {first_row - 1}" if first_row > 1 else ""
            remedy = f"use {first_row} to {height - 1}" if first_row < height else "do not prune"
            raise RequestError("pruning.rows", f"pruning.rows is {self.rows} of {height}{given}: {remedy}.")

    def count(self, candidates: int) -> int:
        """Return how many of the ``candidates`` of a caption are finished."""
        return sum(self._count(len(group)) for group in self._groups(candidates)) if self.prunes else candidates

    def best(self, scores: np.ndarray) -> np.ndarray:
        """Return the indices int64, ascending, of a group's candidates that go on, by the group's scores [n]."""
        return np.sort(np.argsort(-scores, kind="stable")[: self._count(len(scores))])

    def survivors(self, scores: np.ndarray) -> np.ndarray:
        """Return the indices int64, ascending, of a caption's candidates that go on, by the scores [n] of all."""
        return np.concatenate([group[self.best(scores[group])] for group in self._groups(len(scores))])

    def _groups(self, candidates: int) -> list[np.ndarray]:
        """Return the candidates of each group; the last group is smaller if they do not divide evenly."""
        return [np.arange(start, min(start + self.group, candidates)) for start in range(0, candidates, self.group)]

    def _count(self, size: int) -> int:
        """Return how many of a group of ``size`` go on: the share ``keep``, rounded up, and at least one."""
        return max(1, math.ceil(self.keep * size - 1e-9))  # in floats 0.7 * 10 is a little over 7


class Pruner:
    """Collects partial candidates into their groups and says which candidates to drop.

    ``candidates`` is how many each request has, by its id; ``width`` is that of the token grid.
    """

    def __init__(self, pruning: PruningParams, candidates: Mapping[str, int], width: int, judge: Judge) -> None:
        assert pruning.rows is not None
        self.pruning, self._judge = pruning, judge
        self._candidates = candidates
        self._length = pruning.rows * width
        self._collected: dict[tuple[str, int], dict[int, np.ndarray]] = defaultdict(dict)

    def update(self, partial: Iterable[PartialCandidate]) -> dict[str, list[int]]:
        """Take in the partial candidates of a step; return which candidates to drop now, by request id."""
        # With groups of 4 and 3 slots, candidates reach their rows at different steps:
        #
        #     slots   0 1 2     0, 1 and 2 have the rows and go on; the group waits for 3
        #             3 . .     0, 1 and 2 are finished by now; 3 has the rows: score all four by these rows alone
        #
        # The group is scored when its last member has the rows, whatever the others have done since, so that the
        # outcome is the same for any number of slots. Only the saving differs: here that of at most one candidate.
        drops: dict[str, list[int]] = defaultdict(list)
        for candidate in partial:
            if len(candidate.image_tokens) == self._length:
                group = candidate.request_id, candidate.candidate // self.pruning.group
                self._collected[group][candidate.candidate] = candidate.image_tokens
                if len(self._collected[group]) == self._size(*group):
                    drops[candidate.request_id] += self._to_drop(candidate.request_id, self._collected.pop(group))
        return dict(drops)

    def _size(self, request_id: str, group: int) -> int:
        """Return how many candidates the group has: fewer in the last group of a request."""
        return min(self.pruning.group, self._candidates[request_id] - group * self.pruning.group)

    def _to_drop(self, request_id: str, members: Mapping[int, np.ndarray]) -> list[int]:
        """Score the members of one group, candidate -> its first rows; return those that do not go on."""
        candidates = sorted(members)  # and not in the order in which they got there, which depends on the slots
        scores = self._judge(request_id, np.stack([members[candidate] for candidate in candidates]))
        return np.delete(candidates, self.pruning.best(scores)).tolist()
