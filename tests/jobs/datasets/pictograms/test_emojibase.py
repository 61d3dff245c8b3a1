from __future__ import annotations

import pytest

from pictograms.emojibase import clean, concept, keywords, slug, without_tone


def test_a_concept_is_its_code_points_without_the_variation_selector() -> None:
    assert concept("2764-FE0F-200D-1F525") == "2764-200d-1f525"


@pytest.mark.parametrize(
    ("code", "bare"),
    [("1f44b-1f3fd", "1f44b"), ("1f468-1f3fb-200d-1f4bb", "1f468-200d-1f4bb"), ("1f3fb", "1f3fb"), ("1f44b", "1f44b")],
)
def test_a_concept_without_tone_keeps_all_else(code: str, bare: str) -> None:
    assert without_tone(code) == bare


@pytest.mark.parametrize(
    ("label", "name"),
    [("piñata", "pinata"), ("woman’s boot", "womans-boot"), ("St. Lucia & more", "st-lucia-and-more")],
)
def test_a_slug_is_spelt_as_icon_sets_spell_it(label: str, name: str) -> None:
    assert slug(label) == name


def test_labels_become_plain_english() -> None:
    assert clean("flag: Côte d’Ivoire") == "flag of Côte d'Ivoire"
    assert clean("Japanese “open for business” button") == 'Japanese "open for business" button'


def test_keywords_are_words() -> None:
    assert keywords({"tags": ["axe", "<3", "2nd", ":)", "tool"]}) == ["axe", "2nd", "tool"]
