from __future__ import annotations

import pytest

from t2i.data.mirroring import may_be_mirrored


@pytest.mark.parametrize("caption", ["a red heart, flat", "leftover pizza", "bright sun, emoji", "A rightful heir"])
def test_what_looks_as_right_in_a_mirror(caption: str) -> None:
    assert may_be_mirrored([caption])


@pytest.mark.parametrize(
    "caption",
    [
        "hand pointing LEFT",
        "flag: France",
        "keycap: 5",
        "clock, one o'clock",
        "first quarter moon",
        "the letter a",
        "7up",
    ],
)
def test_one_caption_that_speaks_of_sides_or_writing_is_enough(caption: str) -> None:
    assert not may_be_mirrored(["a picture", caption])
