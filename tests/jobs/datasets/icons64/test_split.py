from __future__ import annotations

import numpy as np

from icons64.split import STYLES, Drawn, outline, validation_ids

RANDOM = np.random.default_rng(0)


def drawn(style: str, concept: str, outline_hash: int | None = None) -> Drawn:
    value = int(RANDOM.integers(2**63)) if outline_hash is None else outline_hash
    return Drawn(f"{style}/{concept}", style, concept, value)


def test_one_drawing_is_held_out_of_a_concept_that_is_drawn_in_enough_styles() -> None:
    often = [drawn(f"style-{number}", "owl") for number in range(STYLES)]
    seldom = [drawn(f"style-{number}", "axe") for number in range(STYLES - 1)]
    found = validation_ids(often + seldom)
    assert len(found) == 1
    assert found < {drawing.id for drawing in often}


def test_a_drawing_that_another_set_has_in_another_colour_is_not_held_out() -> None:
    drawings = [drawn(f"style-{number}", "owl", 5) for number in range(STYLES)]
    assert validation_ids(drawings) == set()
    unlike = drawn("style-x", "owl")
    assert validation_ids([*drawings, unlike]) == {unlike.id}


def test_the_order_of_the_drawings_does_not_matter() -> None:
    drawings = [drawn(f"style-{number % 7}", f"thing-{number % 5}") for number in range(35)]
    assert validation_ids(drawings) == validation_ids(drawings[::-1])


def test_the_outline_does_not_depend_on_colour() -> None:
    red, blue = np.full((2, 64, 64, 3), 255, np.uint8)
    red[10:50, 20:30] = [200, 0, 0]
    blue[10:50, 20:30] = [0, 0, 200]
    assert outline(red) == outline(blue)
    blue[40:60, 40:60] = 0
    assert outline(red) != outline(blue)
