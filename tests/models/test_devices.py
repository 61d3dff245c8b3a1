from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from models.devices import default_device, require_gpu
from models.errors import UserError


def test_without_a_gpu_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^torch .* finds no GPU it can use: run this where"):
        require_gpu()


def test_tests_of_a_gpu_end_with_a_sentence_where_there_is_none() -> None:
    words = [sys.executable, "-m", "pytest", "-m", "gpu", __file__]
    without = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=Path(__file__).parents[2], env=without, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Exit: torch {torch.__version__} finds no GPU")


def test_a_gpu_alone_is_not_enough_to_compile_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("CC", "/bin/true")
    require_gpu()
    (tmp_path / "Python.h").unlink()
    with pytest.raises(UserError, match=r"needs gcc and Python's headers: install them \(apt-get install"):
        require_gpu()


@pytest.mark.gpu
def test_a_gpu_is_used() -> None:
    require_gpu()
    assert default_device() == "cuda"
