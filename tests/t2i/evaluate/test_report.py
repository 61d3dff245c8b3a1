"""The report says how its candidates came about."""

from __future__ import annotations

import pytest

from t2i.data import Caption
from t2i.engine import PruningParams
from t2i.evaluate.config import CaptionSet, EvaluateConfig
from t2i.evaluate.figures import Figure
from t2i.evaluate.gallery import CaptionCard, Galleries
from t2i.evaluate.report import Section, protocol, render
from t2i.evaluate.training_images import TrainingImages
from t2i.evaluate.work_list import make_work_list


def section(config: EvaluateConfig, subjects: list[str]) -> Section:
    work_list = make_work_list([Caption("a", "a red circle", "a")], config, {"prior": "0123456789ab"})
    figures = [Figure("clip_score", subject, "captions", 0.5, 0.1, 1, 1) for subject in subjects]
    card = CaptionCard("a red circle", [("data:image/png;base64,", 0.2)], {})
    stated = protocol(config, CaptionSet(images=False), work_list, TrainingImages("none: not recorded"), truncated=0)
    return Section("val", stated, figures, [], Galleries(["a"], ["a"], ["a"]), {"a": card})


@pytest.mark.parametrize(
    ("pruning", "subjects", "sentences"),
    [
        (PruningParams(), ["best", "first"], ["8 images drawn for each", "is the first candidate of every caption"]),
        (
            PruningParams(rows=3, keep=0.25),
            ["best"],
            ["8 images begun for each", "after 3 rows of image tokens CLIP stopped all but 2"],
        ),
    ],
)
def test_the_page_says_what_pruning_left(pruning: PruningParams, subjects: list[str], sentences: list[str]) -> None:
    page = " ".join(render("runs/x", "now", [section(EvaluateConfig(pruning=pruning), subjects)]).split())
    assert all(sentence in page for sentence in sentences)
    assert ("first candidate of every caption" in page) == (pruning.rows is None)


def test_the_protocol_has_the_settings_and_how_many_are_left() -> None:
    pruned = section(EvaluateConfig(candidates=20, pruning=PruningParams(rows=3)), ["best"]).protocol
    assert pruned["pruning"] == {"rows": 3, "keep": 0.5, "group": 16, "finished": 10}
    assert section(EvaluateConfig(), ["best"]).protocol["pruning"] is None


def test_the_page_says_why_there_are_no_training_images() -> None:
    assert "<dd>none: not recorded</dd>" in render("runs/x", "now", [section(EvaluateConfig(), ["best"])])
