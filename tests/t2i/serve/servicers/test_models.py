"""Which models a service has, and what its receipts say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint import load_model
from models.manifest import file_hash
from models.prior import Prior, PriorConfig
from t2i.client import Client
from t2i.client.models import list_models
from t2i.engine import ENGINE_VERSION
from t2i.serve.cli import main
from t2i.serve.generation.receipt import Receipt, Setup, from_message


def test_models_are_listed_with_hashes_sizes_and_limits(service: Any, run_directory: Path) -> None:
    with Client(service.address) as client:
        answer = list_models(client)
    (model,) = answer.models
    prior = load_model(Prior, PriorConfig, run_directory / "prior" / "model")
    assert (model.name, model.is_default, model.ready) == ("tiny", True, True)
    assert (model.image_side, model.grid_height, model.grid_width, model.codes, model.text_length) == (32, 8, 8, 32, 8)
    assert model.parameters["prior"] == sum(tensor.numel() for tensor in prior.state_dict().values())
    assert model.setup.prior.weights == file_hash(run_directory / "prior" / "model" / "weights.safetensors")
    assert (answer.limits.candidates, answer.limits.caption_characters) == (64, 4096)


def test_a_model_that_lacks_a_stage_is_not_ready(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.set_running({"prior"})
    main(["models", "list", "--server", service.address])
    service.set_running({"prior", "decoder", "reranker"})
    main(["models", "list", "--server", service.address])
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny"))
    assert first.startswith("tiny (default, not ready, also dall-e-3)  32 px, 8 x 8 of 32 codes")
    assert second.startswith("tiny (default, ready, also dall-e-3)")


class LoadingPrior:
    """A prior whose replica was lost."""

    async def describe(self) -> None:
        raise TimeoutError


def test_a_model_whose_prior_does_not_answer_is_only_named(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.prior, "replica", LoadingPrior())
    with Client(service.address) as client:
        (model,) = list_models(client).models
    assert (model.name, model.ready, model.HasField("setup")) == ("tiny", False, False)


def test_a_receipt_says_what_images_follow_from_and_what_they_cost(service: Any) -> None:
    with Client(service.address) as client:
        answer = client.generate("a red taco", candidates=6, keep=2, seed=7, top_p=0.9)
        setup = from_message(Setup, list_models(client).models[0].setup)
    receipt = from_message(Receipt, answer.summary.receipt)
    assert (receipt.recipe.caption, receipt.recipe.seed, receipt.recipe.model) == ("a red taco", 7, "tiny")
    assert (receipt.recipe.candidates, receipt.recipe.keep) == (6, 2)
    assert receipt.recipe.sampling.top_p == pytest.approx(0.9)
    assert receipt.recipe.setup == setup
    assert (setup.engine, setup.torch) == (ENGINE_VERSION, torch.__version__)
    assert receipt.best == tuple(image.candidate for image in answer.images)
    assert receipt.tokens_spent == 6 * 64
    assert 1 < receipt.tokens_per_step <= 4  # of the four slots
    assert set(receipt.seconds) == {"queue", "sample", "rank", "encode"}
    assert {stage: weights[:12] for stage, weights in receipt.weights.items()} == answer.summary.models
