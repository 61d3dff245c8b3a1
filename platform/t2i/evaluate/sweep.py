"""The image sets that are drawn: each caption's best of 1, 2, 4, ... candidates, all from the same candidates."""

from __future__ import annotations

from collections.abc import Sequence


def sweep_sizes(candidates: int, *, pruned: bool) -> list[int]:
    """Return of how many candidates the best is measured (the paper's Figure 6): 1, 2, 4, ... and all of them.

    If they were ``pruned`` only the last: the survivors are no random candidates.
    """
    powers = [2**power for power in range(candidates.bit_length()) if 2**power < candidates]
    return [candidates] if pruned else [*powers, candidates]


def set_name(size: int, candidates: int) -> str:
    """Return the name of the image set with each caption's best of ``size`` of its ``candidates``."""
    return "best" if size == candidates else "first" if size == 1 else f"best_of_{size}"


def is_blurred(name: str) -> bool:
    """Return whether an image set is also measured with blur: all but those between the first and the best."""
    return not name.startswith("best_of_")


def measured_radii(name: str, radii: Sequence[float]) -> list[float]:
    """Return at which of the ``radii`` of blur an image set is measured."""
    return [radius for radius in radii if radius == 0 or is_blurred(name)]
