"""One tiny prior on two or four processes, in every way to spread it, beside one process alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.checkpoint import load_tensors, save_model
from models.dvae import DVAE
from models.errors import UserError
from models.tokenizer import CaptionTokenizer
from t2i.data.columns import caption_array
from t2i.train.config import TrainConfig
from t2i.train.loader.feed import InMemorySource
from t2i.train.loop import TrainLoop
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.parallel import Worker, recompute, strategy
from t2i.train.tasks.base import Columns
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig
from tests.t2i.train.tiny import free_port, tiny_dvae, tiny_prior
from tests.workers import run_workers

CAPTIONS = ["red cat", "a blue dog", "green bird", "a small red fish", "tree"]
ALONE = TrainConfig(steps=6, batch_size=8, log_every=1, checkpoint_every=3, validate_every=3, precision="fp32")
SAME = 1e-5
"""Relative difference that losses of the same computation may have, from the rounding of sums."""

Result = dict[str, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    CaptionTokenizer.train(CAPTIONS, 300).save(path / "tokenizer")
    save_model(path / "dvae", DVAE(tiny_dvae()))
    return path


@pytest.fixture(scope="module")
def alone(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    path = tmp_path_factory.mktemp("alone")
    run(0, 1, 1, ALONE, models, path, 0)
    return results(path)


def columns() -> Columns:
    random = np.random.default_rng(0)
    captions = caption_array([[CAPTIONS[i % 5]] for i in range(20)])
    tokens = random.integers(0, 16, (20, 4), dtype=np.int32)
    return {"id": np.arange(20).astype(str), "captions": captions, "image_tokens": tokens}


class FilesReporter:
    """A Reporter into plain files: all workers' files of a checkpoint are in one directory."""

    def __init__(self, path: Path, worker: Worker) -> None:
        self.path, self.worker = path, worker
        self.losses: dict[int, float] = {}
        self.begun = -1

    def newest_checkpoint(self) -> Path | None:
        return max(self.path.glob("step_*"), default=None)

    def begin(self, step: int) -> None:
        self.begun = step

    def step(self, step: int, seconds: float, waited: float) -> None:
        pass

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.losses[step] = values["loss"]

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        pass

    def checkpoint(self, step: int, writers: int, write: Callable[[Path], None]) -> None:
        if self.worker.rank < writers:
            write(self.path / f"step_{step}")

    def finish(self, model: nn.Module | None, metrics: Mapping[str, float]) -> None:
        if model is not None:
            weights = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
            result = {"losses": self.losses, "begun": self.begun, "metrics": metrics, "weights": weights}
            (self.path / "result.json").write_text(json.dumps(result))


def run(
    rank: int, world: int, per_node: int, config: TrainConfig, models: Path, path: Path, port: int, gpus: bool = False
) -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda", rank) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    if world > 1 or gpus:
        backend = "nccl" if gpus else "gloo"
        dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    # A softmax ignores keys' biases: their gradients are rounding alone, of which a tiny epsilon would make steps.
    optimizer = OptimizerConfig(beta2=0.96, epsilon=1e-5, clip_norm=4.0, ema_decay=0.99)
    settings = PriorTaskConfig(
        model=tiny_prior(), optimizer=optimizer, lr=1e-2, warmup_steps=1, bpe_dropout=0.1, caption_dropout=0.1
    )
    task = PriorTask(settings, str(models / "tokenizer"), str(models / "dvae"))
    worker = Worker(rank, world, per_node, device)
    TrainLoop(task, config, InMemorySource(columns()), columns(), FilesReporter(path, worker), worker).run()
    if dist.is_initialized():
        dist.destroy_process_group()


def spawn(world: int, per_node: int, config: TrainConfig, models: Path, path: Path, gpus: bool = False) -> Result:
    run_workers(run, (world, per_node, config, models, path, free_port(), gpus), world)
    return results(path)


def results(path: Path) -> Result:
    result: Result = json.loads((path / "result.json").read_text())
    return result


def check_equal(ours: Result, theirs: Result) -> None:
    assert set(ours["losses"]) <= set(theirs["losses"])
    for step, loss in ours["losses"].items():
        assert loss == pytest.approx(theirs["losses"][step], rel=SAME), step
    for name, weight in ours["weights"].items():
        np.testing.assert_allclose(weight, theirs["weights"][name], rtol=1e-3, atol=2e-5, err_msg=name)
    assert ours["metrics"]["nats_per_image_token"] == pytest.approx(theirs["metrics"]["nats_per_image_token"], rel=1e-4)


def test_a_batch_in_microbatches_is_the_batch_in_one(models: Path, alone: Result, tmp_path: Path) -> None:
    run(0, 1, 1, replace(ALONE, accumulate=4), models, tmp_path, 0)
    check_equal(results(tmp_path), alone)


def test_recomputed_activations_change_nothing(models: Path, alone: Result, tmp_path: Path) -> None:
    run(0, 1, 1, replace(ALONE, recompute=True), models, tmp_path, 0)
    assert results(tmp_path)["losses"] == alone["losses"]


def test_recomputed_blocks_run_once_more_in_the_backward_pass() -> None:
    runs: list[Tensor] = []

    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            runs.append(x)
            return x.sin()

    block = Block()
    recompute([block])
    loss = block(torch.randn(2, 3, requires_grad=True)).sum()
    assert len(runs) == 1
    loss.backward()
    assert len(runs) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "per_node", "settings"),
    [
        (2, 2, {"parallel": "ddp", "accumulate": 2}),
        (2, 2, {"parallel": "fsdp", "accumulate": 2, "recompute": True}),
        (4, 2, {"parallel": "hybrid"}),
    ],
    ids=["ddp", "fsdp", "hybrid"],
)
def test_workers_train_as_one_does(
    world: int, per_node: int, settings: dict[str, Any], models: Path, alone: Result, tmp_path: Path
) -> None:
    check_equal(spawn(world, per_node, replace(ALONE, workers=world, **settings), models, tmp_path), alone)


@pytest.mark.gpu
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("world", [1, 2])
def test_gpus_train_as_a_cpu_does(world: int, parallel: str, models: Path, alone: Result, tmp_path: Path) -> None:
    if torch.cuda.device_count() < world:
        pytest.skip(f"needs {world} GPUs")
    found = spawn(world, world, replace(ALONE, workers=world, parallel=parallel), models, tmp_path, gpus=True)
    assert found["losses"] == pytest.approx(alone["losses"], rel=1e-3)
    assert found["metrics"]["nats_per_image_token"] == pytest.approx(alone["metrics"]["nats_per_image_token"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "writers"), [("ddp", 1), ("fsdp", 2)])
def test_fp16_trains_as_fp32_does_with_scaled_gradients(
    parallel: str, writers: int, models: Path, alone: Result, tmp_path: Path
) -> None:
    settings = replace(ALONE, workers=2, precision="fp16", parallel=parallel)
    halves = spawn(2, 2, settings, models, tmp_path)
    for step, loss in halves["losses"].items():
        assert loss == pytest.approx(alone["losses"][step], rel=2e-3)
    scales = [name for name in saved_tensors(tmp_path / "step_6", writers) if name.startswith("scales/")]
    assert scales, "the gradients were not scaled, as those of fp16 are"


@pytest.mark.slow
def test_a_checkpoint_of_shards_is_taken_up_by_other_workers_in_other_ways(
    models: Path, alone: Result, tmp_path: Path
) -> None:
    half = replace(ALONE, steps=3)
    spawn(2, 2, replace(half, workers=2, parallel="fsdp"), models, tmp_path)
    assert len(list((tmp_path / "step_3").glob("*.safetensors"))) == 2
    run(0, 1, 1, ALONE, models, tmp_path, 0)
    resumed = results(tmp_path)
    assert resumed["begun"] == 3
    check_equal(resumed, alone)
    (tmp_path / "step_6").rename(tmp_path / "unused")
    sharded = spawn(2, 2, replace(ALONE, workers=2, parallel="fsdp"), models, tmp_path)
    assert sharded["begun"] == 3
    check_equal(sharded, alone)


@pytest.mark.slow
def test_compressed_gradients_go_on_with_their_errors(models: Path, tmp_path: Path) -> None:
    settings = replace(ALONE, workers=2, powersgd_rank=1)
    uninterrupted = spawn(2, 2, settings, models, tmp_path)
    errors = {n: e for n, e in saved_tensors(tmp_path / "step_3").items() if n.startswith("error/")}
    assert errors
    assert all(error.any() for error in errors.values())
    (tmp_path / "step_6").rename(tmp_path / "unused")
    resumed = spawn(2, 2, settings, models, tmp_path)
    assert resumed["begun"] == 3
    assert resumed["weights"] == uninterrupted["weights"]
    assert resumed["losses"] == {step: loss for step, loss in uninterrupted["losses"].items() if int(step) > 3}


def saved_tensors(checkpoint: Path, writers: int = 1) -> dict[str, Tensor]:
    """What the first worker has written."""
    return load_tensors(checkpoint / f"state-00000-of-{writers:05}.safetensors")


def test_nodes_that_cannot_hold_a_whole_model_each_are_refused() -> None:
    with pytest.raises(UserError, match="3 workers do not fill nodes of 2"):
        strategy(replace(ALONE, parallel="hybrid"), Worker(0, 3, 2))
