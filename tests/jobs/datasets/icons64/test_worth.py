from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from icons64.candidates import Candidate
from icons64.sets import Style
from icons64.wordnet import WordNet
from icons64.worth import MOST, MOST_IN_STYLE, most_of_a_name

INDEX = """  1 This software and database is being provided to you
axe n 1 1 @ 1 1 00000001
hot_dog n 1 1 @ 1 1 00000002
idea n 1 1 @ 1 1 00000003
bank n 3 1 @ 3 3 00000003 00000003 00000001
"""
DATA = """  1 This software and database is being provided to you
00000001 06 n 01 axe 0 000 | a tool
00000002 13 n 01 hot_dog 0 000 | a sausage
00000003 09 n 01 idea 0 000 | a thought
"""


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    (tmp_path / "dict").mkdir()
    (tmp_path / "dict" / "index.noun").write_text(INDEX)
    (tmp_path / "dict" / "data.noun").write_text(DATA)
    return WordNet(tmp_path)


@pytest.mark.parametrize("text", ["axe", "battle axe", "axes", "hot dog", "hot dogs"])
def test_things_are_known_by_the_whole_name_or_its_last_word_in_either_number(wordnet: WordNet, text: str) -> None:
    assert wordnet.is_thing(text)


@pytest.mark.parametrize("text", ["idea", "axe idea", "bank", "unheard of"])
def test_thoughts_rare_meanings_and_unknown_words_are_no_things(wordnet: WordNet, text: str) -> None:
    assert not wordnet.is_thing(text)


def axes(count: int, kind: str = "interface", styles: int = 1) -> list[Candidate]:
    """Return candidates of one name, spread over styles."""
    found = []
    for k in range(count):
        style = Style(kind, "s", f"{kind}-{k % styles}", "MIT", "p", "l")
        found.append(Candidate(f"{style.style}/{k}", style, f"{k}", "axe", "icons", "axe", (), (), "red"))
    return found


def test_a_name_that_every_interface_has_is_not_drawn_without_end() -> None:
    kept = most_of_a_name([*axes(2 * MOST, styles=MOST), *axes(2 * MOST, "things", styles=MOST)])
    assert Counter(axe.style.kind for axe in kept) == {"interface": MOST, "things": 2 * MOST}


def test_a_name_that_one_style_numbers_is_not_drawn_without_end() -> None:
    assert len(most_of_a_name(axes(20, "things"))) == MOST_IN_STYLE
    assert len(most_of_a_name(axes(20, "emoji"))) == 20


def test_other_names_change_nothing() -> None:
    owl = replace(axes(1)[0], id="s/owl", phrase="owl")
    assert most_of_a_name([*axes(20), owl]) == [*most_of_a_name(axes(20)), owl]
