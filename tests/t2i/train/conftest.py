"""The task and reporter of line_task.py as fixtures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ray import cloudpickle

from t2i.train.checkpoint.run_directory import RunDirectory
from t2i.train.tasks.base import Columns
from tests.t2i.train import line_task as line_module
from tests.t2i.train.line_task import LineConfig, LineTask, Recorders, RecordingReporter


@pytest.fixture
def line_columns() -> Columns:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    return {"id": np.arange(50).astype(str), "x": x}


@pytest.fixture
def line_task() -> LineTask:
    """Its module travels to Ray's workers by value: they cannot import the tests."""
    cloudpickle.register_pickle_by_value(line_module)
    return LineTask(LineConfig())


@pytest.fixture
def recording(tmp_path: Path) -> Recorders:
    return lambda: RecordingReporter(RunDirectory(str(tmp_path / "run")))
