from __future__ import annotations

from pathlib import Path

import pytest

from t2i.data import Caption, SourceConfig
from t2i.evaluate.config import CaptionSet, EvaluateConfig
from t2i.evaluate.selection import TooFewCaptionsError, choose_captions, sample_captions


def test_samples_are_drawn_by_the_seed_and_keep_their_order() -> None:
    captions = [Caption(str(i), "x") for i in range(100)]
    drawn = sample_captions(captions, 10, seed=3)
    assert drawn == sample_captions(captions, 10, seed=3) != sample_captions(captions, 10, seed=4)
    assert [int(c.id) for c in drawn] == sorted(int(c.id) for c in drawn)
    assert sample_captions(captions, None, 0) == sample_captions(captions, 1000, 0) == captions


def test_too_few_captions_for_a_distance_are_refused_before_drawing(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    source = SourceConfig(str(tmp_path / "prompts.txt"))
    with pytest.raises(TooFewCaptionsError, match="x has 2 captions"):
        choose_captions(CaptionSet("x", source), EvaluateConfig())
    assert len(choose_captions(CaptionSet("x", source, images=False), EvaluateConfig())) == 2
