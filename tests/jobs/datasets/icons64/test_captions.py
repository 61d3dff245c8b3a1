from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from icons64.captions import colour_captions, one_colour_captions
from icons64.colours import PALETTE, colour_for, main_colour, with_colour


def test_captions_of_one_colour_all_name_it() -> None:
    found = one_colour_captions(
        "red", "axe", "game icon style", "silhouette", ["hatchet"], ["tool", "axe", "blue", "wood"]
    )
    assert found == [
        "red axe, game icon style",
        "red axe",
        "red axe, silhouette",
        "red hatchet, game icon style",
        "red axe, tool, wood",
    ]


def test_a_colour_in_the_name_is_not_said_twice() -> None:
    assert with_colour("black", "black flag") == "black flag"
    assert with_colour("light blue", "light bulb") == "light blue light bulb"
    assert with_colour("", "owl") == "owl"


def test_captions_of_several_colours_say_the_main_one_beside_the_look() -> None:
    found = colour_captions("green", "frog", "Core flat style", "flat", [], ["animal"])
    assert found == ["frog, Core flat style", "frog", "green frog, flat", "frog, animal"]


def test_captions_do_not_repeat_themselves() -> None:
    assert colour_captions("", "Owl", "flat", "flat", ["owl"], []) == ["Owl, flat", "Owl"]


def test_the_colour_follows_from_the_id_alone_and_all_are_used() -> None:
    chosen = [colour_for(f"game-icons/{number}", "axe") for number in range(500)]
    assert chosen == [colour_for(f"game-icons/{number}", "axe") for number in range(500)]
    assert set(chosen) == set(PALETTE)


@pytest.mark.parametrize(("text", "colour"), [("red heart", "red"), ("golden key", "yellow"), ("white flag", "black")])
def test_a_colour_that_the_name_says_is_drawn(text: str, colour: str) -> None:
    assert colour_for("any/id", text) == colour


@pytest.mark.parametrize("name", [name for name in PALETTE if name not in ("light blue", "gray", "black")])
def test_a_picture_is_called_by_the_colour_of_most_of_it(name: str) -> None:
    image = Image.new("RGB", (8, 8), "white")
    image.paste(PALETTE[name], (0, 0, 8, 5))
    image.paste("#333333", (0, 5, 8, 7))
    assert main_colour(image) == name


def test_a_picture_of_two_colours_or_none_is_called_by_none() -> None:
    halves = np.full((8, 8, 3), [200, 20, 20], np.uint8)
    halves[4:] = [20, 20, 200]
    assert main_colour(Image.fromarray(halves)) == ""
    assert main_colour(Image.new("RGB", (8, 8), "white")) == ""
