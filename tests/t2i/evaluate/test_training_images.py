"""The training-images control is the run's own data, or absent with a reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from models.errors import UserError
from t2i.data import SourceConfig
from t2i.data.run_record import write_training_source
from t2i.evaluate.config import CaptionSet, EvaluateConfig, TrainingSource
from t2i.evaluate.prepare import prepare_training
from t2i.evaluate.training_images import choose_training_images

EMOJI = "jobs/datasets/emoji64/train.parquet"


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> str:
    """A run that does not record its data."""
    shutil.copytree(tiny_run, tmp_path / "run")
    return f"{tmp_path}/run"


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({}, "none: the run does not record its data"),
        ({"training_source": None}, "none: training_source=null"),
        ({"sets": [CaptionSet(images=False)]}, "none: no set has images to compare them with"),
    ],
)
def test_there_may_be_none(run: str, settings: dict[str, Any], note: str) -> None:
    chosen = choose_training_images(EvaluateConfig(run=run, **settings))
    assert (chosen.source, list(chosen.ids), chosen.note) == (None, [], note)


@pytest.mark.parametrize("path", ["/nowhere/train.parquet", "nowhere/shards/"])
def test_recorded_images_that_are_gone_are_left_out_with_a_reason(run: str, path: str) -> None:
    write_training_source(run, SourceConfig(path))
    chosen = choose_training_images(EvaluateConfig(run=run))
    assert chosen.source is None
    assert chosen.note.startswith("none: ")
    assert path.strip("/") in chosen.note


def test_given_images_that_are_gone_are_refused(run: str) -> None:
    with pytest.raises(UserError, match=r"path is 'nowhere\.parquet'"):
        choose_training_images(EvaluateConfig(run=run, training_source=TrainingSource("nowhere.parquet")))


def test_the_runs_own_images_are_drawn_at_random_within_their_limit(run: str) -> None:
    write_training_source(run, SourceConfig(EMOJI, limit=50))
    chosen = choose_training_images(EvaluateConfig(run=run, training_images=20))
    assert chosen.note == f"20 of the first 50 of {EMOJI}"
    first = pq.read_table(EMOJI, columns=["id"]).slice(0, 50)["id"].to_pylist()
    assert len(set(chosen.ids) & set(first)) == 20
    assert list(chosen.ids) != first[:20]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_too_few_recorded_images_are_left_out_and_too_few_given_ones_refused(run: str, tmp_path: Path) -> None:
    write_training_source(run, SourceConfig(EMOJI, limit=5))
    prepared = prepare_training(EvaluateConfig(run=run, out=f"{tmp_path}/a"))
    assert prepared.store is None
    assert "has 5 usable images" in prepared.note
    given = EvaluateConfig(run=run, out=f"{tmp_path}/b", training_source=TrainingSource(EMOJI, limit=5))
    with pytest.raises(UserError, match=r"^training_source has 5 usable images of 5"):
        prepare_training(given)
