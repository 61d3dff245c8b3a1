"""Captions to tokens and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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


def test_no_byte_of_another_character_merges() -> None:
    tokenizer = CaptionTokenizer.train(["café 红心 1234 ..."] * 50, 400)
    assert len(tokenizer.encode("é", 9).ids) == 2
    assert len(tokenizer.encode("红心1234...", 99).ids) == 6 + 4 + 3
    assert tokenizer.decode(tokenizer.encode("CAF", 9).ids[:1]) == "caf"


@given(st.text(min_size=1, max_size=60).filter(str.strip), st.sampled_from([0.1, 0.5, 1.0]))
def test_dropout_changes_the_tokens_but_not_the_text(text: str, dropout: float) -> None:
    encoded = TOKENIZER.encode_with_dropout(text, 1000, dropout, np.random.default_rng(0))
    assert TOKENIZER.decode(encoded.ids) == text.lower()


def test_dropout_of_nothing_is_no_dropout_and_of_everything_is_bytes() -> None:
    for caption in CAPTIONS:
        random = np.random.default_rng(0)
        assert TOKENIZER.encode_with_dropout(caption, 99, 0.0, random) == TOKENIZER.encode(caption, 99)
        assert len(TOKENIZER.encode_with_dropout(caption, 99, 1.0, random).ids) == len(caption.encode())


def test_dropout_is_seeded_and_leaves_merges_out_at_its_rate() -> None:
    # "heart" is one token after 4 merges; without dropout of the first pairs it stays one with probability near 0.9^4.
    def pieces(seed: int) -> list[int]:
        random = np.random.default_rng(seed)
        return [len(TOKENIZER.encode_with_dropout("hearts", 99, 0.1, random).ids) for _ in range(500)]

    assert pieces(1) == pieces(1)
    assert pieces(1) != pieces(2)
    assert 0.5 < np.mean(np.array(pieces(1)) == 1) < 0.95


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
        ("a\ud800", "not valid Unicode"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(caption: str, message: str) -> None:
    with pytest.raises(CaptionError, match=message):
        TOKENIZER.encode(caption, 16)


@pytest.mark.parametrize("caption", ["heart" * 20_000, "a " * 50_000, "红" * 50_000], ids=["a word", "words", "bytes"])
def test_endless_captions_are_cut_and_reported(caption: str) -> None:
    encoded = TOKENIZER.encode(caption, 16)
    assert encoded.truncated
    assert len(encoded.ids) == 16
    assert encoded.ids == TOKENIZER.encode(caption[:200], 16).ids
    assert TOKENIZER.encode_with_dropout(caption, 16, 0.0, np.random.default_rng(0)) == encoded


def test_a_blank_caption_in_training_has_no_tokens() -> None:
    assert TOKENIZER.encode_batch(["", "a"], 4)[0].ids == []


def test_saved_and_loaded(tmp_path: Path) -> None:
    loaded = CaptionTokenizer.load(TOKENIZER.save(tmp_path))
    assert loaded.encode("a red heart", 16) == TOKENIZER.encode("a red heart", 16)
    assert loaded.vocabulary == TOKENIZER.vocabulary


def test_a_half_written_tokenizer_is_refused(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        CaptionTokenizer.load(tmp_path)
