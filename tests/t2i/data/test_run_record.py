"""A run's record leads back to its training images."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2i.config import ROOT
from t2i.data import SourceConfig
from t2i.data.run_record import trained_image_size, training_source, write_training_source
from t2i.storage import DataError

EMOJI = "jobs/datasets/emoji64/train.parquet"


@pytest.mark.parametrize(
    "source",
    [
        SourceConfig(f"{ROOT}/{EMOJI}"),
        SourceConfig("/data/dataset_coco.json", "coco", "/data/val2014", "train", 100),
        SourceConfig("s3://bucket/shards/", "webdataset"),
    ],
)
def test_a_record_gives_the_source_back(tmp_path: Path, source: SourceConfig) -> None:
    write_training_source(str(tmp_path), source)
    assert training_source(str(tmp_path)) == source


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_run_that_does_not_say_has_neither_source_nor_size(tmp_path: Path) -> None:
    assert training_source(str(tmp_path)) is None
    assert trained_image_size(str(tmp_path)) is None
    write(tmp_path / "prior/config.yaml", "task: {lr: 0.1}\n")
    write(tmp_path / "dvae/config.yaml", "inputs: {}\n")
    assert training_source(str(tmp_path)) is None
    assert trained_image_size(str(tmp_path)) is None


def test_the_size_is_that_of_the_dvaes_training(tmp_path: Path) -> None:
    write(tmp_path / "dvae/config.yaml", "task: {image_size: 48}\n")
    assert trained_image_size(str(tmp_path)) == 48


@pytest.mark.parametrize("text", ["[", "- a\n- b\n", "inputs: 3\n", "inputs: {tokens: {train: {source: {pth: x}}}}\n"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "prior/config.yaml", text)
    with pytest.raises(DataError, match=str(file)):
        training_source(str(tmp_path))


def test_the_shipped_run_names_images_that_come_with_the_code() -> None:
    source = training_source(str(ROOT / "models/trained/small"))
    assert source == SourceConfig(str(ROOT / EMOJI))
    assert Path(source.path).is_file()
