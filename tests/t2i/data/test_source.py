from __future__ import annotations

from pathlib import Path

import pytest

from t2i.config import ConfigError, load_config
from t2i.data import SourceConfig
from t2i.data.source import resolve_format
from t2i.storage import DataError


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/train.parquet", "parquet"),
        ("s3://bucket/shards/*.tar", "webdataset"),
        ("captions_val2017.json", "coco"),
        ("prompts.txt", "text"),
        ("list.tsv", "table"),
    ],
)
def test_auto_tells_the_format_by_suffix(path: str, expected: str) -> None:
    assert resolve_format(SourceConfig(path=path)) == expected


@pytest.mark.parametrize(("file", "expected"), [("a/0.tar", "webdataset"), ("b/c/0.parquet", "parquet")])
def test_auto_looks_into_a_folder(tmp_path: Path, file: str, expected: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    assert resolve_format(SourceConfig(path=str(tmp_path))) == expected


def test_a_given_format_wins() -> None:
    assert resolve_format(SourceConfig(path="odd.json", format="parquet")) == "parquet"


def test_a_format_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").touch()
    with pytest.raises(DataError, match=r"format cannot be told from path .*: set it to parquet, coco"):
        resolve_format(SourceConfig(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [("format=tfrecord", "format is 'tfrecord': use auto, parquet"), ("limit=0", "limit is 0: use at least 1")],
)
def test_bad_settings_are_refused(argument: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(SourceConfig, "no_job", [argument])
