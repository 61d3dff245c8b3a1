from __future__ import annotations

import pytest

from icons64.heldout import HeldOut

BELL, OWL, WAVE, CAT = "1f514", "1f989", "1f44b", "1f408"
HELD_OUT = HeldOut(
    test=frozenset({BELL}),
    val=frozenset({("noto", OWL), ("noto", WAVE)}),
    all=frozenset({("noto", OWL), ("noto", WAVE), ("noto", CAT), ("twemoji", BELL)}),
)


@pytest.mark.parametrize("style", ["noto", "emojione", "circle-flags"])
def test_a_test_concept_is_drawn_in_no_emoji_set(style: str) -> None:
    assert not HELD_OUT.allows(style, "", BELL)
    assert not HELD_OUT.allows(style, "", f"{BELL}-1f3fd")


def test_a_validation_cell_is_drawn_by_other_hands_only() -> None:
    assert not HELD_OUT.allows("noto-again", "noto", OWL)
    assert not HELD_OUT.allows("noto-again", "twemoji noto", OWL)
    assert HELD_OUT.allows("emojione", "", OWL)


def test_a_validation_cell_is_held_out_in_every_skin_tone() -> None:
    assert not HELD_OUT.allows("noto", "noto", f"{WAVE}-1f3ff")


def test_what_comes_with_emoji64_is_not_drawn_again() -> None:
    assert not HELD_OUT.allows("noto", "noto", CAT)
    assert HELD_OUT.allows("noto-again", "noto", CAT)


def test_emoji64_holds_out_its_test_concepts_and_validation_cells() -> None:
    found = HeldOut.of_emoji64()
    assert (len(found.test), len(found.val), len(found.all)) == (120, 866, 8219)
    assert not found.allows("emojione", "", BELL)
