from __future__ import annotations

from typing import Any

import pytest

from icons64.sets import Style, check_license, styles, taken
from pictograms.iconify import IconSet


def style(**fields: Any) -> Style:
    return Style(
        **{"kind": "interface", "set": "s", "style": "s", "license": "MIT", "phrase": "p", "look": "l"} | fields
    )


def icon_set(spdx: str) -> IconSet:
    return IconSet({"icons": {}, "info": {"license": {"spdx": spdx}}})


def test_a_set_whose_licence_has_changed_is_refused_in_a_sentence() -> None:
    check_license(style(), icon_set("MIT"))
    with pytest.raises(
        SystemExit, match=r"s is now under CC-BY-NC-4.0, in sets.yaml under MIT: read .* remove the line"
    ):
        check_license(style(), icon_set("CC-BY-NC-4.0"))


def test_a_style_takes_the_names_of_its_pattern_without_those_that_it_leaves() -> None:
    names = ["owl", "owl-fill", "owl-line", "fill-bucket", "sharp-owl-fill"]
    assert taken(style(take="*-fill", leave="sharp"), names) == {"owl": "owl-fill"}
    assert taken(style(leave="fill line"), names) == {"owl": "owl"}


def test_of_several_sizes_the_largest_is_taken() -> None:
    names = ["owl-16-filled", "owl-48-filled", "owl-20-filled", "owl-48-regular"]
    assert taken(style(take="*-{size}-filled"), names) == {"owl": "owl-48-filled"}


def test_styles_are_unique_and_under_licences_that_allow_any_use_with_attribution() -> None:
    names = [style.style for style in styles()]
    assert len(set(names)) == len(names)
    free = {"Apache-2.0", "MIT", "ISC", "CC0-1.0", "CC-BY-4.0", "CC-BY-3.0"}
    assert {style.license for style in styles()} <= free
