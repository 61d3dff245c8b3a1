from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

from models.settings import setting
from t2i.config import Command, ConfigError, run_job


@dataclass
class Check:
    file: str = setting("", "what to check", path="read")
    deep: bool = setting(False, "look closely")
    draws: int = setting(0, "how many", at_least=0)


@dataclass
class Work:
    steps: int = setting(1, "how long", at_least=1)


def command(main: Any = print) -> Command:
    return Command("check", "check a file", main, Check, ("file",))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["a.json"], ["file=a.json"]),
        (["--deep", "a.json", "--draws", "5"], ["deep=true", "file=a.json", "draws=5"]),
        (["--draws=5", "deep=true", "file"], ["draws=5", "deep=true", "file=file"]),
        (["runs/lr=1/a.json"], ["file=runs/lr=1/a.json"]),
        (["file=a.json", "b.json"], ["file=a.json", "file=b.json"]),  # refused later: given twice
        (["a.json", "b.json", "--depe"], ["file=a.json", "b.json", "--depe"]),  # refused later: no keys
    ],
)
def test_words_become_keys_and_values(typed: list[str], words: list[str]) -> None:
    assert command().words(typed) == words


def test_a_missing_argument_is_named_with_the_usage() -> None:
    with pytest.raises(ConfigError, match=r"^file is missing: type check FILE, or see check --help\.$"):
        command().words(["--deep"])


def run(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> list[Any]:
    ran: list[Any] = []
    monkeypatch.setattr(sys, "argv", ["work.py", *words])
    run_job(ran.append, Work, "work", [command(ran.append)])
    return ran


def test_the_first_word_chooses_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, ["steps=3"]) == [Work(3)]
    assert run(monkeypatch, ["check", "/a.json", "--deep"]) == [Check("/a.json", deep=True)]


def test_help_lists_the_commands_and_each_has_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, ["--help"]) == []
    assert "  check FILE  check a file" in capsys.readouterr().out
    assert run(monkeypatch, ["check", "--help"]) == []
    shown = capsys.readouterr().out
    assert "usage: python jobs/work.py check FILE [key=value ...]" in shown
    assert "deep=False" in shown
    assert "steps" not in shown


def test_a_bad_word_of_a_command_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, ["check", "a.json", "--draws", "many"])
    assert "draws is 'many': use a whole number." in capsys.readouterr().err
