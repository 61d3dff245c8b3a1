"""A small prior that has every kind of layer, and engines run to their end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from models.prior import Prior, PriorConfig
from t2i.engine import Engine

CONFIG = PriorConfig(
    layers=4,
    heads=2,
    head_width=16,
    text_length=6,
    text_vocabulary=50,
    grid_height=3,
    grid_width=4,
    codebook_size=32,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Steps this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_prior(config: PriorConfig = CONFIG) -> Prior:
    """Weights so large that captions matter: at 0.3 half of them have the tokens of the empty caption."""
    torch.manual_seed(0)
    model = Prior(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model


@pytest.fixture(scope="package")
def prior() -> Prior:
    return random_prior()


def run(engine: Engine) -> dict[tuple[str, int], list[int]]:
    """(request, candidate) -> image tokens of all that finish."""
    tokens = {}
    while engine.has_work:
        for candidate in engine.step().finished:
            tokens[candidate.request_id, candidate.candidate] = candidate.image_tokens.tolist()
    return tokens
