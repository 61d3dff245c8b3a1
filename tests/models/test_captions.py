"""One rule for captions, wherever they come from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.captions import (
    CaptionError,
    Captions,
    check_caption,
    decode_text,
    find_captions,
    first_good,
    split_lines,
    tidy,
)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (" a red bird\n", ["a red bird"]),
        ("a\u2028red\x85bird\x0bon\ra\r\nbranch", ["a red bird on a branch"]),
        ("\ufeffa bird", ["a bird"]),
        (b"caf\xc3\xa9", ["café"]),
        ("\ufeffcafé".encode(), ["café"]),
        ("café".encode("utf-16"), ["café"]),
        (["one", "two"], ["one", "two"]),
        ([["one"], ["two", ["three"]]], ["one", "two", "three"]),
        ({"caption": "one", "other": 7}, ["one"]),
        ({"captions": None, "caption": "", "text": "good"}, ["good"]),
        ("\U0001f469\u200d\U0001f469\u200d\U0001f467", ["\U0001f469\u200d\U0001f469\u200d\U0001f467"]),
        ("7", ["7"]),
        (None, []),
        ([], []),
        ({}, []),
        (json.loads("[" * 32 + '"good"' + "]" * 32), ["good"]),
    ],
)
def test_captions_are_found_without_a_problem(value: Any, texts: list[str]) -> None:
    assert find_captions(value) == Captions(texts)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "a caption is blank"),
        (" \t\n\u3000\xa0", "a caption is blank"),
        ("\u200b\u2060", "a caption is blank"),
        ("\ud83d", "a caption is blank"),
        (7, "a caption is no text but of type int"),
        (1.5, "a caption is no text but of type float"),
        (float("nan"), "a caption is no text but of type float"),
        (True, "a caption is no text but of type bool"),
        ("café".encode("latin-1"), "a caption is not UTF-8"),
        ([None], "a caption is null"),
        (json.loads("[" * 33 + "]" * 33), "a caption is nested too deeply"),
        (json.loads("[" * 900 + "]" * 900), "a caption is nested too deeply"),
        (json.loads('{"text": ' * 900 + "7" + "}" * 900), "a caption is nested too deeply"),
    ],
)
def test_what_is_no_caption_is_dropped_and_named(value: Any, problem: str) -> None:
    assert find_captions(value) == Captions(problems=[problem])
    assert find_captions([value, "good"]) == Captions(["good"], ["a caption is null" if value is None else problem])


@pytest.mark.parametrize(
    ("value", "text", "problem"),
    [
        ("half \ud83d a pair", "half a pair", "half a surrogate pair left out of a caption"),
        ("\x00a\x07 bird\x7f", "a bird", "control characters left out of a caption"),
    ],
)
def test_what_can_be_mended_is_mended_and_named(value: str, text: str, problem: str) -> None:
    assert find_captions(value) == Captions([text], [problem])


def test_tidy_makes_one_line() -> None:
    assert tidy("  a\r\n red\tfox\x00 \ud800 ") == "a red fox"


def test_the_first_good_source_wins() -> None:
    assert first_good([None, ["  ", 7], "good", "better"]) == Captions(["good"])
    assert first_good([" ", [None]]) == Captions(problems=["a caption is blank", "a caption is null"])


@given(st.recursive(st.none() | st.text() | st.binary() | st.integers() | st.floats(), st.lists))
def test_whatever_is_found_can_be_encoded_and_stays_a_caption(value: Any) -> None:
    for text in find_captions(value).texts:
        check_caption(text)
        assert find_captions(text) == Captions([text])
        assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "captions"),
    [
        ("a red circle\na blue circle\n", ["a red circle", "a blue circle"]),
        ("A dog\nA cat", ["A dog", "A cat"]),
        (
            "A long caption that was\nwrapped by hand, and\r\nends here.",
            ["A long caption that was wrapped by hand, and ends here."],
        ),
        ("A dog.\na cat", ["A dog.", "a cat"]),
        ("A dog\n\non a lawn", ["A dog", "on a lawn"]),
        ("\n a\u2028b \n\n", ["a\u2028b"]),
        ("", []),
    ],
    ids=["two", "two capitals", "wrapped", "ends a sentence", "a blank line", "other separators", "empty"],
)
def test_lines_are_captions_unless_they_go_on(text: str, captions: list[str]) -> None:
    assert split_lines(text) == captions


def test_bytes_that_are_no_text_are_none() -> None:
    assert decode_text(b"\xff\xfe\x00") is None
    assert decode_text(b"\xe9") is None


@pytest.mark.parametrize(
    ("caption", "message"), [("", "caption is empty"), (" \n", "caption is empty"), ("a\ud800", "not valid Unicode")]
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(caption: str, message: str) -> None:
    with pytest.raises(CaptionError, match=message):
        check_caption(caption)
