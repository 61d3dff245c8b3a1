"""What holds of every setting of every job and of the service: numbers have bounds, paths are absolute."""

from __future__ import annotations

import ast
import importlib
import os
import stat
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from models.settings import Bounds
from submit import JOBS as SUBMITTED
from submit import WITHOUT_IMAGES
from t2i.config import ROOT, ConfigError, load_config
from t2i.config.leaves import field_types, item_type, without_none
from t2i.data import SourceConfig
from t2i.serve.command import ServeCommand

JOBS = sorted(file for file in (ROOT / "jobs").glob("*.py") if "run_job(" in file.read_text())
NEEDED = {"generate": ["captions=[a]"]}
"""Words without which a job refuses any others."""
NEEDED_BY = {
    "task.model.weights": ["task.model.architecture=ViT-B-32"],
    "extractor.score_weights": ["extractor.weights=inception.pth", "extractor.preset=dmgan"],
    "training_source.images": ["training_source.path=pairs"],
    "tls.certificate": ["tls.key=key.pem"],
    "tls.key": ["tls.certificate=certificate.pem"],
    "tls.client_ca": ["tls.certificate=certificate.pem", "tls.key=key.pem"],
}
"""Words without which a setting is refused."""


def config_class(job: Path) -> type:
    """The configuration that a job's file hands to ``run_job``."""
    calls = [node for node in ast.walk(ast.parse(job.read_text())) if isinstance(node, ast.Call)]
    (name,) = [ast.unparse(call.args[1]) for call in calls if ast.unparse(call.func) == "run_job"]
    return getattr(importlib.import_module(job.stem), name)


def command_classes(job: Path) -> dict[str, type]:
    """The configurations of a job's commands, by job and command."""
    commands = getattr(importlib.import_module(job.stem), "COMMANDS", [])
    return {f"{job.stem} {command.name}": command.config_cls for command in commands}


CLASSES: dict[str, type[Any]] = {"serve": ServeCommand} | {job.stem: config_class(job) for job in JOBS}
CLASSES |= {name: config for job in JOBS for name, config in command_classes(job).items()}


def settings(group: type, prefix: str = "") -> Iterator[tuple[str, Any, Field[Any]]]:
    """Key, type and field of every setting, those in lists of groups too."""
    for field in fields(group):
        kind = without_none(field_types(group)[field.name])[0]
        item = item_type(kind)
        nested = item or kind
        if is_dataclass(nested):
            yield from settings(nested, f"{prefix}{field.name}{'[]' if item else ''}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{field.name}", kind, field


def groups(group: type) -> Iterator[type]:
    """Every dataclass of settings within one, itself first."""
    yield group
    for kind in field_types(group).values():
        nested = item_type(without_none(kind)[0]) or without_none(kind)[0]
        if is_dataclass(nested):
            yield from groups(nested)  # type: ignore[arg-type]


FIRST = {id(field): job for job in reversed(CLASSES) for _, _, field in settings(CLASSES[job])}
"""The first job that has a setting: groups such as ``ray`` are shared by many."""


@pytest.mark.parametrize("job", CLASSES)
def test_every_number_has_bounds_and_a_value_beyond_them_is_refused_by_name(job: str) -> None:
    for key, kind, field in settings(CLASSES[job]):
        if FIRST[id(field)] != job:
            continue
        number = item_type(kind) or kind
        if number not in (int, float):
            continue
        assert field.metadata["bounds"] != Bounds(), f"{key} of {job} has no bounds"
        if "[]" in key:
            continue  # tests/t2i/config/test_loading.py refuses such values inside lists
        for value in ("-1e9", "nan", "inf") if number is float else ("-1000000000", str(10**30)):
            word = f"{key}=[{value}]" if item_type(kind) else f"{key}={value}"
            with pytest.raises(ConfigError, match=rf"^{key} (is|has) \S+: use "):
                load_config(CLASSES[job], job, [*NEEDED.get(job, []), word])


@pytest.mark.parametrize("job", CLASSES)
def test_every_path_comes_out_absolute(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for key, _, field in settings(CLASSES[job]):
        if field.metadata["path"] is None or "[]" in key:
            continue
        needed = NEEDED_BY.get(key, NEEDED.get(job, []))
        value: Any = load_config(CLASSES[job], job, [*needed, f"{key}=my set #2/[v]"])
        for name in key.split("."):
            value = getattr(value, name)
        assert value == f"{tmp_path}/my set #2/[v]"


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_job_can_be_run_by_its_name(job: Path) -> None:
    assert job.read_text().startswith("#!/usr/bin/env python\n")
    assert os.stat(job).st_mode & stat.S_IXUSR


def test_every_job_but_the_demo_can_be_submitted() -> None:
    assert sorted({job.stem for job in JOBS} - {"demo"}) == SUBMITTED


@pytest.mark.parametrize("job", SUBMITTED)
def test_a_job_without_images_has_no_setting_for_them(job: str) -> None:
    assert (job in WITHOUT_IMAGES) == (SourceConfig not in groups(CLASSES[job]))
