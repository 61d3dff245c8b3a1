"""The layout's promises: nothing here may shadow the standard library, and imports go one way."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
JOBS = {file.stem: file for file in (ROOT / "jobs").glob("*.py") if file.stem != "_source"}
BENCHMARKS = {file.stem: file for file in (ROOT / "jobs" / "benchmarks").glob("*.py")}


def imported(file: Path) -> Iterator[str]:
    """Every module that a file imports, and every name that it imports from one, dotted."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_platform_is_a_source_root_that_holds_exactly_one_package() -> None:
    """A ``platform/__init__.py`` or loose module would replace the standard library's ``platform``."""
    entries = [path.name for path in (ROOT / "platform").iterdir() if path.name != "__pycache__"]
    assert entries == ["t2i"]


@pytest.mark.parametrize("folder", ["jobs", "tests", "platform", "."])
def test_no_module_or_test_folder_bears_a_standard_library_name(folder: str) -> None:
    """Each of these folders stands first on ``sys.path`` for somebody: pytest, a job, ``ray job submit``."""
    names = {path.stem for path in (ROOT / folder).glob("*.py")}
    names |= {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    assert not names & set(sys.stdlib_module_names)


def test_tests_hold_no_folder_called_platform() -> None:
    assert not list((ROOT / "tests").rglob("platform"))


@pytest.mark.parametrize("cwd", [".", "jobs", "platform"])
def test_the_standard_library_platform_wins_from_every_folder(cwd: str) -> None:
    code = "import platform, uuid; assert platform.system(); uuid.uuid4()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / cwd, check=True)


def test_files_are_small_enough_to_ship() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    sizes = {name: (ROOT / name).stat().st_size for name in files if name and (ROOT / name).is_file()}
    assert max(sizes.values()) < 30e6
    assert sum(sizes.values()) < 120e6


def test_the_contract_about_jobs_names_all_of_them() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    forbidden = next(c["forbidden_modules"] for c in contracts if "job" in c["name"])
    assert sorted(forbidden) == sorted([*JOBS, *BENCHMARKS])


def test_only_the_demo_and_the_studies_variants_import_other_jobs() -> None:
    importers = {name for name, file in (JOBS | BENCHMARKS).items() if set(imported(file)) & set(JOBS)}
    assert importers == {"demo", "train_variant"}


def test_only_fit_names_the_torch_trainer() -> None:
    packages = [*(ROOT / "platform" / "t2i").rglob("*.py"), *(ROOT / "models").rglob("*.py"), *JOBS.values()]
    users = [file for file in packages if "ray.train.torch.TorchTrainer" in set(imported(file))]
    assert users == [ROOT / "platform" / "t2i" / "train" / "fit.py"]


def test_the_wheel_holds_all_that_code_reads_and_no_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not [name for name in names if name.endswith((".safetensors", ".parquet"))]
    assert {
        "models/py.typed",
        "models/prior/decoding/kernels.c",
        "t2i/py.typed",
        "t2i/evaluate/report.css",
        "t2i/evaluate/report.html.j2",
        "t2i/evaluate/report_macros.html.j2",
        "t2i/curate/report.html.j2",
        "t2i/simulate/capacity.md.j2",
        "t2i/protos/v1/generation.proto",
    } <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
