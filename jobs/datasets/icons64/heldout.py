"""What must not be trained on, because emoji64 measures it.

    emoji64's test    its concepts are drawn in no emoji set and in no set of flags, in whatever skin tone
    emoji64's val     its cells, a concept in a style, are drawn in no set by the same hand, in whatever skin tone
    emoji64's train   the same drawings come with emoji64 itself

A drawing that slips through under another name is found by ``prepare_pairs.py``, which knows emoji64's pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from pictograms.emojibase import without_tone

EMOJI64 = Path(__file__).parents[1] / "emoji64"


@dataclass(frozen=True)
class HeldOut:
    """Concepts of emoji64's test set, cells (style, concept) of its validation set, and all of its cells."""

    test: frozenset[str]
    val: frozenset[tuple[str, str]]
    all: frozenset[tuple[str, str]]

    @classmethod
    def of_emoji64(cls) -> HeldOut:
        """Return what the files of emoji64 hold out."""
        cells = {split: _cells(EMOJI64 / f"{split}.parquet") for split in ("train", "val", "test")}
        test = frozenset(without_tone(concept) for _, concept in cells["test"])
        return cls(test, frozenset(cells["val"]), frozenset().union(*cells.values()))

    def allows(self, style: str, hand: str, concept: str) -> bool:
        """Return whether an emoji may be drawn in a style, which is by the hand of these of emoji64's styles."""
        base = without_tone(concept)
        seen_in_val = any((name, base) in self.val for name in hand.split())
        return base not in self.test and not seen_in_val and (style, concept) not in self.all


def _cells(file: Path) -> set[tuple[str, str]]:
    table = pq.read_table(file, columns=["style", "concept"])
    return set(zip(table["style"].to_pylist(), table["concept"].to_pylist(), strict=True))
