"""Fixtures that every part's tests share."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.devices import require_gpu
from models.errors import UserError
from tests import processes
from tests.t2i.storage.seaweed import ACCESS_KEY, SECRET_KEY

ROOT = Path(__file__).resolve().parent.parent

StartProcess = Callable[..., subprocess.Popen[str]]


def pytest_configure(config: pytest.Config) -> None:
    """Where there is no GPU, ``-m gpu`` ends with a sentence."""
    if config.option.markexpr == "gpu":
        try:
            require_gpu()
        except UserError as error:
            pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session", autouse=True)
def _offline() -> None:
    """No test reaches a network; libraries that would try fail at once."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.fixture(scope="session", autouse=True)
def _one_model_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All processes of this session, those of Ray too, know one model store, as those of a cluster do."""
    os.environ["T2I_MODEL_STORE"] = str(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread_beside_others() -> None:
    """Where pytest-xdist runs tests side by side, each process computes on one thread."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def _ray_at_the_end() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="module")
def ray_cluster(_ray_at_the_end: None) -> None:
    """One real local Ray for all ``ray``-marked tests: two CPUs, no dashboard."""
    from t2i.cluster import RayConfig, start_ray

    start_ray(RayConfig(cpus=2, object_store_gb=0.5))


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with all four models: random weights, 32 px images, 8 x 8 tokens."""
    from models.reranker import CLIPConfig
    from tests.random_run import write_random_run

    captions = ["a red circle", "a blue square, Noto emoji style"] * 9
    clip = CLIPConfig(image_size=32, width=16, hidden=32)
    return write_random_run(tmp_path_factory.mktemp("tiny") / "run", captions, text_length=16, clip=clip)


@pytest.fixture
def stored_run(tiny_run: Path, tmp_path: Path) -> str:
    """The URI of the tiny run in a store: this process's memory, which every file system of fsspec stands for."""
    from tests.random_run import put_run

    return put_run(tiny_run, f"memory://{tmp_path.name}/run")


@pytest.fixture
def start_process() -> Iterator[StartProcess]:
    """``tests.processes.start``; all groups that a test has started with it are killed at its end."""
    started: list[subprocess.Popen[str]] = []

    def start(words: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        started.append(processes.start(words, **options))
        return started[-1]

    yield start
    for process in started:
        processes.kill_group(process)


@pytest.fixture
def train_warnings() -> Iterator[list[str]]:
    """The warnings of the logger ``train``, in order."""
    yield from _warnings("train")


@pytest.fixture
def evaluate_warnings() -> Iterator[list[str]]:
    """The warnings of the logger ``evaluate`` in this process, in order."""
    yield from _warnings("evaluate")


@pytest.fixture
def data_warnings() -> Iterator[list[str]]:
    """The warnings of the logger ``data`` in this process, in order."""
    yield from _warnings("data")


def _warnings(name: str) -> Iterator[list[str]]:
    """The warnings of one of the platform's loggers, which do not propagate to pytest's."""
    from t2i.logs import get_logger

    messages: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keeping(logging.WARNING)
    get_logger(name).addHandler(handler)
    yield messages
    get_logger(name).removeHandler(handler)
