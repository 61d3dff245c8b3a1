"""Captions to tokens and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.captions import CaptionError
from models.manifest import CheckpointError
from models.tokenizer import CaptionTokenizer

CAPTIONS = [
    "a red heart",
    "red hearts, 3D render",
    "a taco",
    "tacos and hearts",
    "flag of Spain, 3D render",
] * 4
TOKENIZER = CaptionTokenizer.train(CAPTIONS, 320)


@given(st.text(min_size=1, max_size=60).filter(str.strip))
def test_any_text_survives_in_lower_case(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text, 1000).ids) == text.lower()


def test_only_letters_merge() -> None:
    tokens = [TOKENIZER.decode([token]) for token in TOKENIZER.encode("red hearts, 3D render", 100).ids]
    assert tokens == ["red", " ", "hearts", ",", " ", "3", "d", " ", "render"]


def test_truncation_is_reported() -> None:
    encoded = TOKENIZER.encode("a red heart", 3)
    assert encoded.truncated
    assert len(encoded.ids) == 3
    assert not TOKENIZER.encode("a red heart", 5).truncated


def test_batch_equals_one_by_one() -> None:
    assert TOKENIZER.encode_batch(CAPTIONS, 4) == [TOKENIZER.encode(caption, 4) for caption in CAPTIONS]


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("", "caption is empty"),
        (" \n", "caption is empty"),
        ("a" * 10_000, "10000 characters"),
        ("a\ud800", "not valid Unicode"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(caption: str, message: str) -> None:
    with pytest.raises(CaptionError, match=message):
        TOKENIZER.encode(caption, 16)


def test_saved_and_loaded(tmp_path: Path) -> None:
    loaded = CaptionTokenizer.load(TOKENIZER.save(tmp_path))
    assert loaded.encode("a red heart", 16) == TOKENIZER.encode("a red heart", 16)
    assert loaded.vocabulary == TOKENIZER.vocabulary


def test_a_half_written_tokenizer_is_refused(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        CaptionTokenizer.load(tmp_path)
