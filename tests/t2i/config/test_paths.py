"""Paths mean the same in every process, from every working directory, and in a checkout that was moved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.errors import UserError
from models.settings import setting
from t2i.config import ROOT, ConfigError, absolute, is_same, load_config, paths, recorded


@dataclass
class Source:
    path: str = setting("jobs/datasets/emoji64/train.parquet", "data", path="read")
    images: str | None = setting(None, "folder of the images", path="read")
    split: str | None = setting(None, "no path")


@dataclass
class Job:
    run: str = setting("runs/tiny", "results", path="written")
    out: str = setting("${run}/eval", "report", path="written")
    source: Source = setting(Source, "the data")
    sets: list[Source] = setting(list, "more data")


@dataclass
class Writer:
    out: str = setting("result.yaml", "result", path="file")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("x.parquet", "{here}/x.parquet"),
        ("./a/../x.parquet", "{here}/x.parquet"),
        ("shards/", "{here}/shards"),
        ("~/x.parquet", "/home/me/x.parquet"),
        ("~nobody-has-this-name/x", "{here}/~nobody-has-this-name/x"),
        ("my set #2/x.parquet", "{here}/my set #2/x.parquet"),
        ("set [v2]/**/*.tar", "{here}/set [v2]/**/*.tar"),
        ("/data/x", "/data/x"),
        ("s3://bucket/a/../x#1", "s3://bucket/a/../x#1"),
        ("gs://bucket/x", "gs://bucket/x"),
    ],
)
def test_every_path_field_is_absolute_and_uris_stay(elsewhere: Path, typed: str, meant: str) -> None:
    job = load_config(Job, "job", [f"source.path={typed}", f"source.images={typed}", f"sets=[{{path: '{typed}'}}]"])
    expected = meant.format(here=elsewhere)
    assert (job.source.path, job.source.images, job.sets[0].path) == (expected, expected, expected)
    assert job.source.split is None


@pytest.mark.parametrize("key", ["run", "source.path"])
@pytest.mark.parametrize("name", ["a" * 300, "/".join(["a" * 200] * 30)])
def test_a_path_that_no_file_system_takes_is_refused(key: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is '.*, which the file system refuses \(File name too long\)"):
        load_config(Job, "job", [f"{key}={name}"])


def resolved(run: str) -> str:
    """What a run stands for, as in a store that has version 2 of everything but ``nothing``."""
    if run == "models://nothing":
        raise UserError(f"{run} is not there.")
    return f"{run}/2" if run.startswith("models://") else run


@dataclass
class Named:
    run: str = setting("models://small", "run", path="read", resolve=resolved)


@dataclass
class Reader(Named):
    more: list[Named] = setting(list, "more runs")
    out: str = setting("${run}/eval", "report", path="written")


def test_a_path_is_loaded_as_what_it_stands_for(elsewhere: Path) -> None:
    reader = load_config(Reader, "job", ["out=x", "more=[{run: models://big}, {run: a}]"])
    assert [each.run for each in (reader, *reader.more)] == ["models://small/2", "models://big/2", f"{elsewhere}/a"]
    with pytest.raises(ConfigError, match=r"^more\.run: models://nothing is not there\.$"):
        load_config(Reader, "job", ["out=x", "more=[{run: models://nothing}]"])


def test_nothing_is_written_into_the_model_store(elsewhere: Path) -> None:
    with pytest.raises(ConfigError, match=r"^out is models://small/eval, in the model store, where nothing changes"):
        load_config(Reader, "job")
    with pytest.raises(ConfigError, match=r"^run is models://small, in the model store, .*: name another run=\."):
        load_config(Job, "job", ["run=models://small", "out=x"])
    assert not list(elsewhere.iterdir())


def test_a_path_made_of_another_field_follows_it(elsewhere: Path) -> None:
    assert load_config(Job, "job", ["run=a b"]).out == f"{elsewhere}/a b/eval"
    assert load_config(Job, "job", ["run=s3://bucket/run"]).out == "s3://bucket/run/eval"


def test_what_comes_with_the_code_is_found_from_anywhere(elsewhere: Path) -> None:
    assert load_config(Job, "job").source.path == f"{ROOT}/jobs/datasets/emoji64/train.parquet"
    assert absolute("models/trained/small") == f"{ROOT}/models/trained/small"
    assert absolute("jobs/datasets/mine") == f"{elsewhere}/jobs/datasets/mine"
    (elsewhere / "models" / "trained" / "small").mkdir(parents=True)
    assert absolute("models/trained/small") == f"{elsewhere}/models/trained/small"


def test_a_result_that_cannot_be_written_is_refused_before_work(elsewhere: Path) -> None:
    (elsewhere / "file").touch()
    with pytest.raises(ConfigError, match=r"^out is .*/file/x, and .*/file is no directory that can be written: name"):
        load_config(Job, "job", ["out=file/x"])


def test_a_file_is_written_anew_but_a_directory_is_none(elsewhere: Path) -> None:
    (elsewhere / "file").touch()
    assert load_config(Writer, "job", ["out=file"]).out == f"{elsewhere}/file"
    assert load_config(Writer, "job", ["out=new/file"]).out == f"{elsewhere}/new/file"
    with pytest.raises(ConfigError, match=r"^out is .*, and .*/file is no directory that can be written: name another"):
        load_config(Writer, "job", ["out=file/x"])
    with pytest.raises(ConfigError, match=r"^out is .*, a directory: name a file\."):
        load_config(Writer, "job", ["out=."])


def test_a_result_that_ray_would_delete_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(ConfigError, match=r"^run is .*/runs/mine, which Ray deletes after the job: give an absolute"):
        load_config(Job, "job", ["run=runs/mine"])
    assert load_config(Job, "job", ["run=s3://bucket/run"]).source.path == f"{ROOT}/jobs/datasets/emoji64/train.parquet"


def test_what_is_recorded_does_not_depend_on_where_the_code_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for root in ("/old/checkout", "/new/checkout"):
        monkeypatch.setattr(paths, "ROOT", Path(root))
        sources = [Source(f"{root}/data/x.parquet"), Source("/data/x.parquet"), Source("s3://bucket/x")]
        assert [recorded(source)["path"] for source in sources] == [
            "data/x.parquet",
            "/data/x.parquet",
            "s3://bucket/x",
        ]


@pytest.mark.parametrize(
    ("saved", "wanted", "same"),
    [
        ("data/x.parquet", "data/x.parquet", True),
        ("data/x.parquet", "{here}/data/x.parquet", True),
        ("./data/x.parquet", "{here}/data/x.parquet", True),
        ("{root}/jobs/datasets/emoji64", "jobs/datasets/emoji64", True),
        ("{here}/x.parquet", "{here}/moved/x.parquet", False),
        ("{here}/gone/x.parquet", "{here}/moved/x.parquet", True),
        ("{here}/gone/x.parquet", "{here}/moved/y.parquet", False),
        ("{here}/*.parquet", "{here}/moved/*.parquet", False),
        ("{here}/gone/*.parquet", "{here}/moved/*.parquet", True),
        ("cats/x.parquet", "dogs/x.parquet", False),
        ("s3://a/x", "s3://b/x", False),
        ("bf16", "fp32", False),
        (1, 2, False),
        (None, "x", False),
    ],
)
def test_data_found_at_another_place_is_the_same(tmp_path: Path, saved: Any, wanted: Any, same: bool) -> None:
    (tmp_path / "x.parquet").touch()
    places = {"here": tmp_path, "root": ROOT}
    values = [value.format(**places) if isinstance(value, str) else value for value in (saved, wanted)]
    assert is_same(*values) is same
    assert is_same({"source": {"path": values[0]}, "seed": 1}, {"source": {"path": values[1]}, "seed": 1}) is same
    assert not is_same({"source": {}}, {"source": {"path": values[1]}})
