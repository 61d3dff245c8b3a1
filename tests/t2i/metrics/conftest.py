"""Fixtures: the random Inception and the two sets of images that all implementations measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.random_inception import two_image_sets, write_random_inception


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_inception(tmp_path_factory.mktemp("random") / "inception.pth")


@pytest.fixture(scope="session")
def two_sets() -> tuple[np.ndarray, np.ndarray]:
    return two_image_sets()
