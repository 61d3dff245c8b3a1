"""Fixtures that every part's tests share."""

from __future__ import annotations

import logging
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
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


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
    from models.checkpoint import save_model
    from models.dvae import DVAE, DVAEConfig
    from models.prior import Prior, PriorConfig
    from models.reranker import CLIPConfig, CLIPReranker
    from models.tokenizer import CaptionTokenizer

    run = tmp_path_factory.mktemp("tiny") / "run"
    torch.manual_seed(0)
    prior = PriorConfig(3, 2, 16, text_length=16, text_vocabulary=300, grid_height=8, grid_width=8, codebook_size=32)
    CaptionTokenizer.train(["a red circle", "a blue square, Noto emoji style"] * 9, 300).save(run / "tokenizer")
    save_model(run / "dvae" / "model", DVAE(DVAEConfig(16, groups=3, codebook_size=32, decoder_input_width=16)))
    save_model(run / "prior" / "model", Prior(prior))
    save_model(run / "clip" / "model", CLIPReranker(CLIPConfig(image_size=32, width=16, hidden=32)))
    return run


@pytest.fixture
def train_warnings() -> Iterator[list[str]]:
    """The warnings of the logger ``train``, in order; the platform's loggers do not propagate to pytest's."""
    from t2i.logs import get_logger

    messages: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keeping(logging.WARNING)
    get_logger("train").addHandler(handler)
    yield messages
    get_logger("train").removeHandler(handler)
