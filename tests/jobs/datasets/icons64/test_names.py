from __future__ import annotations

import pytest

from icons64.names import category_words, is_brand, is_interface, phrase


@pytest.mark.parametrize(
    ("name", "category", "text"),
    [
        ("steam-locomotive", "", "steam locomotive"),
        ("food-drink-coffee-cup-2", "FoodDrink", "coffee cup"),
        ("pet-animals-rabbit-1", "PetAnimals", "rabbit"),
        ("tree-alt", "", "tree"),
        ("icecream-five", "", "icecream"),
        ("notebook-one-alt", "", "notebook"),
        ("star-fall4", "", "star fall"),
        ("file-mp3", "", "file mp3"),
        ("3d-glasses", "", "3d glasses"),
        ("baby-0306m", "", "baby"),
        ("gift-reciept", "", "gift receipt"),
        ("7", "", ""),
        ("2-above-water", "", ""),
        ("phone-down-above-911", "", ""),
        ("round", "", "round"),
    ],
)
def test_a_name_becomes_a_phrase(name: str, category: str, text: str) -> None:
    assert phrase(name, category) == text


def test_categories_are_read_in_either_spelling() -> None:
    assert category_words("ComputersDevicesElectronics") == ["computers", "devices", "electronics"]
    assert category_words("Food & Drink") == ["food", "drink"]


@pytest.mark.parametrize("text", ["arrow up", "file text", "letter", "ab", "sort ascending", "bell off", "x"])
def test_interface_glyphs_are_known(text: str) -> None:
    assert is_interface(text)


@pytest.mark.parametrize("text", ["battle axe", "owl", "motorcycle", "fried egg", "sign post"])
def test_things_are_not_taken_for_interface_glyphs(text: str) -> None:
    assert not is_interface(text)


def test_brands_are_known_by_a_word_by_their_whole_name_and_from_sets_of_logos() -> None:
    assert is_brand("instagram camera")
    assert is_brand("apple")
    assert not is_brand("apple core")
    assert not is_brand("blender")
    assert is_brand("blender", frozenset({"blender"}))
