"""The layout's promises: nothing here may shadow the standard library, and imports go one way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
