"""A small evaluation with its receipt, which tests verify, compare and tamper with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.t2i.evaluate.receipts.small_evaluation import evaluate


@pytest.fixture(scope="module")
def evaluated(ray_cluster: None, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    return evaluate(tmp_path_factory.mktemp("evaluated"), tiny_run)


@pytest.fixture
def receipt(evaluated: Path, tmp_path: Path) -> Path:
    """A receipt in a copy of its evaluation that a test may change."""
    return Path(shutil.copytree(evaluated.parent, tmp_path / "moved")) / evaluated.name
