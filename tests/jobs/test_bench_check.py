"""Ratios are kept with the machine that they are of, and those that fell are named."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import harness
from bench_check import BenchCheck, main
from models.errors import UserError
from ratios import VARIABLE, Machine, Ratios, keep, load

AVX2 = Machine("a CPU", cores=2, flags=["avx2"], torch="2.14.1", commit="new")


def stored(file: Path, machine: Machine, **ratios: float) -> str:
    file.write_text(json.dumps(asdict(Ratios(machine, ratios))))
    return str(file)


def check(folder: Path, recorded: dict[str, float], result: dict[str, float], machine: Machine = AVX2) -> None:
    before = stored(folder / "recorded", replace(AVX2, commit="old"), **recorded)
    main(BenchCheck(stored(folder / "result", machine, **result), before))


def test_ratios_to_the_first_of_each_table_are_kept_with_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bench.json"))
    harness.medians({"theirs": lambda: 3.0, "ours": lambda: 2.0, "slow": lambda: 6.0}, 1, "step")
    harness.medians({"not": lambda: 1.0, "kept": lambda: 1.0}, 1)
    keep("image", {"theirs": 1.0, "ours": 0.25})
    found = load(tmp_path / "bench.json")
    assert found.ratios == {
        "step: ours beside theirs": 1.5,
        "step: slow beside theirs": 0.5,
        "image: ours beside theirs": 4.0,
    }
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert asked.stdout.startswith(found.machine.commit.removesuffix("-dirty"))
    assert found.machine.cores == os.cpu_count()


def test_a_run_by_hand_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    keep("step", {"theirs": 3.0, "ours": 2.0})
    assert not list(tmp_path.iterdir())


def test_what_fell_by_more_than_a_tenth_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        check(tmp_path, {"a": 2.0, "b": 2.0, "c": 2.0, "gone": 2.0}, {"a": 1.79, "b": 1.81, "c": 3.0, "added": 1.0})
    assert caught.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "fell: a: 2 -> 1.79 (-10%)",
        "not measured: gone",
        "new beside old: of 3 ratios 1 fell by more than 10%.",
    ]


def test_nothing_fell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(tmp_path, {"a": 2.0}, {"a": 1.81})
    assert capsys.readouterr().out == "new beside old: of 1 ratios 0 fell by more than 10%.\n"


@pytest.mark.parametrize("change", [{"flags": ["avx2", "avx512f", "amx_bf16"]}, {"cores": 8}])
def test_other_kinds_of_machines_are_not_compared(tmp_path: Path, change: dict) -> None:
    with pytest.raises(UserError, match=r"^recorded is of 2 cores with avx2, result of .*: run `make bench RECORD=1`"):
        check(tmp_path, {"a": 2.0}, {"a": 2.0}, replace(AVX2, **change))


def test_another_processor_torch_or_commit_is_compared(tmp_path: Path) -> None:
    check(tmp_path, {"a": 2.0}, {"a": 2.0}, replace(AVX2, cpu="another", torch="2.15.0", commit="newest"))


def test_a_file_that_is_missing_is_named_with_the_command_that_writes_it(tmp_path: Path) -> None:
    there, missing = stored(tmp_path / "a", AVX2), str(tmp_path / "none")
    with pytest.raises(UserError, match=r"^result is .*none, which does not exist: run `make bench` first"):
        main(BenchCheck(missing, there))
    with pytest.raises(UserError, match=r"^recorded is .*none, which does not exist: run `make bench RECORD=1` first"):
        main(BenchCheck(there, missing))
