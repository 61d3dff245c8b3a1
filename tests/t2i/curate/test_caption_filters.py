from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from t2i.curate import CaptionRules
from t2i.curate.caption_filters import CaptionJudge, caption_key

EMOJI = "jobs/datasets/emoji64/test.parquet"


def reason(caption: str, **rules: object) -> str:
    return CaptionJudge(CaptionRules(**rules)).judge(caption).reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("dog", "short"),
        ("a 1 2 3", "short"),
        ("12:30 !?", "short"),
        ("a red fox in the snow", ""),
        ("東京タワーの夜景", "language"),
        ("photographed on 12 May 2009", "boilerplate"),
        ("Photo taken on May 3rd, 2011", "boilerplate"),
        ("posted on 2014-05-01", "boilerplate"),
        ("IMG_0231.JPG from DSC01233", "boilerplate"),
        ("Copyright by Jane Doe", "boilerplate"),
        ("© 2010 Jane Doe", "boilerplate"),
        ("All rights reserved", "boilerplate"),
        ("see www.example.com/pictures/of/dogs", "boilerplate"),
        ("taken with my iPhone", "boilerplate"),
        ("no title available", "boilerplate"),
        ("a wedding photographed on a beach", ""),
        ("two dogs playing in the snow, taken on 3 March 2012", ""),
        ("copyright, blob style", ""),
        ("the march of 2000 penguins", ""),
        ("ein roter Apfel liegt auf dem Tisch", "language"),
        ("un gato negro duerme en la silla", "language"),
        ("чёрный кот", "language"),
        ("le chat", ""),
        ("roter Hund", ""),
    ],
)
def test_each_filter(caption: str, expected: str) -> None:
    assert reason(caption) == expected


def test_what_is_too_short_to_tell_has_no_language() -> None:
    judge = CaptionJudge(CaptionRules())
    assert judge.judge("red heart").language == "?"
    assert judge.judge("a bright red heart").language == "en"
    assert judge.judge("кот на окне").language != "?"


def test_every_rule_can_be_changed() -> None:
    assert reason("dog", min_letters=3, min_words=1) == ""
    assert reason("dos perros en la nieve", english=False) == ""
    assert reason("taken on 3 March 2012, dogs in the snow", boilerplate_share=0.3) == "boilerplate"
    assert reason("photographed on 12 May 2009", boilerplate=[]) == ""
    assert reason("stock image of a dog", boilerplate=["^stock image.*"]) == "boilerplate"


def test_hardly_a_caption_of_the_emoji_is_taken_for_foreign() -> None:
    captions = {text for row in pq.read_table(EMOJI, columns=["captions"]).to_pylist() for text in row["captions"]}
    reasons = [reason(text) for text in captions]
    assert reasons.count("language") / len(captions) < 0.01
    assert reasons.count("boilerplate") == 0


def test_keys_forget_case_digits_and_punctuation() -> None:
    assert caption_key("IMG_0001") == caption_key("img_77")
    assert caption_key("A red fox!") == caption_key("a red  fox")
    assert caption_key("a red fox") != caption_key("a red ox")


def test_what_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(ValueError, match=r"captions.boilerplate: '\(' is no regular expression"):
        CaptionRules(boilerplate=["("])
