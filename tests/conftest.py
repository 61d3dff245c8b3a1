"""Fixtures that every part's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _offline() -> None:
    """No test reaches a network; libraries that would try fail at once."""
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One real local Ray for all ``ray``-marked tests: two CPUs, no dashboard."""
    import ray

    from t2i.cluster import RayConfig, start_ray

    start_ray(RayConfig(cpus=2, object_store_gb=0.5))
    yield
    ray.shutdown()
