"""Configuration: what is merged, and how everything wrong is refused."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.errors import UserError
from models.settings import setting
from t2i.config import ConfigError, describe, load_config, load_mapping, loading, run_job


@dataclass
class Train:
    steps: int = setting(100, "optimiser updates", at_least=1)
    lr: float = setting(1e-3, "peak learning rate", above=0)
    decay: float = setting(0.9, "decay of averages", at_least=0, below=1)
    port: int = setting(0, "where metrics are", at_least=0, at_most=65535)
    milestones: list[int] = setting(list, "steps to stop at", at_least=0)
    compile: bool = setting(False, "whether to compile")


@dataclass
class Set:
    name: str = setting("val", "name in the report")
    source: str = setting("val.txt", "captions")
    share: float = setting(1.0, "part of it to use", above=0, at_most=1)


@dataclass
class Job:
    preset: str = setting("tiny", "named sizes")
    run: str = setting("runs/${preset}", "where results go")
    title: str | None = setting(None, "headline")
    captions: list[str] = setting(list, "what to draw")
    seed: int | None = setting(None, "random seed", at_least=0)
    sets: list[Set] = setting(list, "sets to evaluate")
    control: Set | None = setting(Set, "a set to compare with; null: none")
    train: Train = field(default_factory=Train)

    def __post_init__(self) -> None:
        if self.seed == 13:
            raise ValueError("seed is 13: use another.")

    @classmethod
    def for_preset(cls, preset: str) -> Job:
        if preset not in ("tiny", "big"):
            raise UserError(f"preset {preset!r} is unknown: use one of tiny, big.")
        return cls(preset=preset, train=Train(steps=1000 if preset == "big" else 100))


@pytest.fixture(autouse=True)
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "job").mkdir()
    monkeypatch.setattr(loading, "CONFIGS", tmp_path)
    return tmp_path / "job"


def test_dataclass_then_preset_then_yaml_then_command_line(configs: Path) -> None:
    (configs / "big.yaml").write_text("train: {lr: 0.5, milestones: [3]}")
    job = load_config(Job, "job", ["preset=big", "train.milestones=[1,2]"])
    assert job == Job("big", "runs/big", train=Train(1000, 0.5, milestones=[1, 2]))
    assert load_config(Job, "job") == Job("tiny", "runs/tiny", train=Train())


TEXTS = [
    "20240101_1530",
    "007",
    "1e5",
    "0x10",
    "null",
    "true",
    "2024-01-01",
    "a: b",
    "set #2",
    "[v2]",
    "{x}",
    "${oc.env:HOME}",
    "${preset}",
    r"\${a}\\${b}",
    "'quoted'",
    "a=b",
    " ",
    "é☃",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_taken_as_it_was_typed(text: str) -> None:
    assert load_config(Job, "job", [f"run={text}"]).run == text


@pytest.mark.parametrize("text", [text for text in TEXTS if text != "null"])
def test_so_is_text_that_may_be_left_out(text: str) -> None:
    assert load_config(Job, "job", [f"title={text}"]).title == text


@pytest.mark.parametrize("word", ["title=", "title=null"])
def test_an_empty_word_or_null_leaves_it_out(configs: Path, word: str) -> None:
    (configs / "tiny.yaml").write_text("title: something")
    assert load_config(Job, "job", [word]).title is None


@pytest.mark.parametrize("text", TEXTS)
def test_text_in_lists_and_groups_is_taken_as_it_was_typed(text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    job = load_config(Job, "job", [f"captions=[{quoted}]", f"sets=[{{name: {quoted}}}]"])
    assert (job.captions, job.sets) == ([text], [Set(text)])
    assert load_mapping(Job, {"captions": [text], "control": {"name": text}}).control == Set(text)


def test_without_quotes_numbers_in_a_list_of_texts_stay_texts() -> None:
    job = load_config(Job, "job", ["captions=[007, true, null, 1e5]", "sets=[{name: 007}]"])
    assert (job.captions, job.sets[0].name) == (["007", "true", "null", "1e5"], "007")


def test_only_defaults_and_yaml_refer_to_other_fields(configs: Path) -> None:
    (configs / "tiny.yaml").write_text("title: of ${run}")
    assert load_config(Job, "job", ["run=a${preset}"]).title == "of a${preset}"


def test_a_group_may_be_left_out_or_given_whole() -> None:
    assert load_config(Job, "job", ["control=null"]).control is None
    assert load_config(Job, "job", ["control={name: 1}"]).control == Set("1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.step=3"], r"train.step is not a known key: did you mean train.steps?"),
        (["zzyzx=3"], r"zzyzx is not a known key: see --help for the keys."),
        (["sets=[{nam: a}]"], "sets.nam is not a known key: did you mean sets.name?"),
        (["sets.name=a"], "sets.name is not a known key: sets is a list, write sets=[...]."),
        (["train.steps=many"], "train.steps is 'many': use a whole number."),
        (["train.steps=1e3"], "train.steps is '1e3': use a whole number."),
        (["train.lr=big"], "train.lr is 'big': use a number."),
        (["train.compile=maybe"], "train.compile is 'maybe': use true or false."),
        (["train.steps=0"], "train.steps is 0: use at least 1."),
        (["train.lr=0"], "train.lr is 0.0: use more than 0."),
        (["train.lr=nan"], "train.lr is nan: use more than 0."),
        (["train.lr=inf"], "train.lr is inf: use more than 0."),
        (["train.decay=1"], "train.decay is 1.0: use at least 0 and less than 1."),
        (["train.port=70000"], "train.port is 70000: use 0 to 65535."),
        (["train.milestones=[1,-1]"], "train.milestones has -1: use at least 0."),
        (["seed=-1"], "seed is -1: use at least 0."),
        (["seed=99999999999999999999"], "seed is 99999999999999999999: use at most 9223372036854775807."),
        (["sets=[{share: 2}]"], "sets.share is 2.0: use more than 0 and at most 1."),
        (["seed=13"], "seed is 13: use another."),
        (["preset=huge"], "preset 'huge' is unknown: use one of tiny, big."),
        (["preset="], "preset= is empty: give a text."),
        (["train.steps="], "train.steps= is empty: give a whole number."),
        (["train.steps"], "'train.steps' is not key=value: see --help for the keys."),
        (["--run=x"], "'--run=x' has dashes: write run=x without them."),
        (["--run", "x"], "'--run' has dashes: write run=... without them."),
        (["train=3"], "train is a group of fields: set one of them, such as train.steps=..."),
        (["captions=a taco"], "captions is a list: write it in brackets, as captions='[...]'."),
        (["captions=[a: b]"], "captions has {...} or [...] where a text belongs: put texts in quotes."),
        (["captions=[1"], "captions cannot be read as YAML (expected ',' or ']', but got '<stream end>'): "),
        (["run=a", "run=b"], "run is given twice: leave one out."),
        (["train.steps=1", "train={lr: 1}"], "train is given twice: leave one out."),
        (["train={lr: 1}", "train.lr=1"], "train.lr is given twice: leave one out."),
        (["sets=[{name: a, name: b}]"], "sets.name is given twice: leave one out."),
        (["title=caf\udce9"], r"b'title=caf\xe9' is not UTF-8: type it, or rename the file, in UTF-8."),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Job, "job", words)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: {lr: 1}", "trian is not a known key"),
        ("train: {lr: 1, lr: 2}", "train.lr is given twice"),
        ("run: ${nothing}", "run: Interpolation key 'nothing' not found"),
        ("train: [", "it cannot be read as YAML"),
    ],
)
def test_what_is_wrong_in_the_yaml_is_named(configs: Path, text: str, message: str) -> None:
    (configs / "tiny.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(Job, "job")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


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
