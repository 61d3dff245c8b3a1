"""Configuration: what is merged, and how everything wrong is refused."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.errors import UserError
from models.settings import setting
from t2i import config as config_module
from t2i.config import ConfigError, describe, load_config, run_job


@dataclass
class Train:
    steps: int = setting(100, "optimiser updates")
    lr: float = setting(1e-3, "peak learning rate")
    milestones: list[int] = setting(list, "steps to stop at")

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"train.steps is {self.steps}: use at least 1.")


@dataclass
class Job:
    preset: str = setting("tiny", "named sizes")
    run: str = setting("runs/${preset}", "where results go")
    seed: int | None = setting(None, "random seed")
    train: Train = field(default_factory=Train)

    @classmethod
    def for_preset(cls, preset: str) -> Job:
        if preset not in ("tiny", "big"):
            raise UserError(f"preset {preset!r} is unknown: use one of tiny, big.")
        return cls(preset=preset, train=Train(steps=1000 if preset == "big" else 100))


@pytest.fixture(autouse=True)
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "job").mkdir()
    monkeypatch.setattr(config_module, "CONFIGS", tmp_path)
    return tmp_path / "job"


def test_dataclass_then_preset_then_yaml_then_command_line(configs: Path) -> None:
    (configs / "big.yaml").write_text("train: {lr: 0.5, milestones: [3]}")
    job = load_config(Job, "job", ["preset=big", "train.milestones=[1,2]"])
    assert job == Job("big", "runs/big", None, Train(1000, 0.5, [1, 2]))
    assert load_config(Job, "job") == Job("tiny", "runs/tiny", None, Train())


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.step=3", r"train.step is not a known key: did you mean train.steps\?"),
        ("nonsense=3", r"nonsense is not a known key"),
        ("train.steps=many", r"train.steps: Value 'many' .* could not be converted to Integer"),
        ("train.steps=0", r"train.steps is 0: use at least 1"),
        ("preset=huge", r"preset 'huge' is unknown: use one of tiny, big"),
        ("train.steps", r"'train.steps' is not key=value"),
        ("train=3", r"train is a group of fields: set one of them, such as train.steps=..."),
        ("run=${nothing}", r"nothing"),
        ("a=[1", r"the command line cannot be read"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(Job, "job", [argument])
    assert "\n" not in str(caught.value)


def test_a_wrong_key_in_the_yaml_names_the_file(configs: Path) -> None:
    (configs / "tiny.yaml").write_text("trian: {lr: 1}")
    with pytest.raises(ConfigError, match=r"tiny.yaml: trian is not a known key"):
        load_config(Job, "job")


def test_help_lists_every_field_with_default_and_meaning() -> None:
    text = describe(Job, "job")
    for line in ("preset=tiny", "run=runs/${preset}", "seed=null", "train.steps=100", "train.milestones=[]"):
        assert line in text
    assert "peak learning rate" in text


def test_a_job_ends_bad_input_with_one_line_and_code_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["job.py", "train.steps=0"])
    with pytest.raises(SystemExit) as caught:
        run_job(print, Job, "job")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "job: train.steps is 0: use at least 1.\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(_: Job) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["job.py"])
    with pytest.raises(ZeroDivisionError):
        run_job(main, Job, "job")
