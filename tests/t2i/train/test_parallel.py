"""One tiny prior on two or four processes, in every way to spread it, beside one process alone."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from models.checkpoint import load_tensors, save_model
from models.dvae import DVAE, DVAEConfig
from models.errors import UserError
from models.prior import PriorConfig
from models.tokenizer import CaptionTokenizer
from t2i.train.config import TrainConfig
from t2i.train.loader.feed import InMemorySource
from t2i.train.loop import TrainLoop
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.parallel import Worker
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig

SIZES = PriorConfig(
    layers=2, heads=2, head_width=8, text_length=6, text_vocabulary=300, grid_height=2, grid_width=2, codebook_size=16
)
CAPTIONS = ["red cat", "a blue dog", "green bird", "a small red fish", "tree"]
ALONE = TrainConfig(steps=6, batch_size=8, log_every=1, checkpoint_every=3, validate_every=3, precision="fp32")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models")
    CaptionTokenizer.train(CAPTIONS, 300).save(path / "tokenizer")
    sizes = DVAEConfig(width=8, groups=2, blocks_per_group=1, codebook_size=16, decoder_input_width=8)
    save_model(path / "dvae", DVAE(sizes))
    return path


@pytest.fixture(scope="module")
def alone(models, tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("alone")
    run(0, 1, 1, ALONE, models, path, 0)
    return results(path)


def columns() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    captions = np.empty(20, object)
    captions[:] = [[CAPTIONS[i % 5]] for i in range(20)]
    tokens = random.integers(0, 16, (20, 4), dtype=np.int32)
    return {"id": np.arange(20).astype(str), "captions": captions, "image_tokens": tokens}


class Files:
    """A Reporter of plain files: what all workers' checkpoints hold lies in one directory for each step."""

    def __init__(self, path: Path, worker: Worker) -> None:
        self.path, self.worker = path, worker
        self.losses: dict[int, float] = {}
        self.begun = -1

    def newest_checkpoint(self) -> Path | None:
        return max(self.path.glob("step_*"), default=None)

    def begin(self, step) -> None:
        self.begun = step

    def step(self, step, seconds, waited) -> None:
        pass

    def scalars(self, step, values) -> None:
        self.losses[step] = values["loss"]

    def validation(self, step, metrics, pictures) -> None:
        pass

    def checkpoint(self, step, writers, write) -> None:
        if self.worker.rank < writers:
            write(self.path / f"step_{step}")

    def finish(self, model, metrics) -> None:
        if self.worker.rank == 0:
            weights = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
            result = {"losses": self.losses, "begun": self.begun, "metrics": metrics, "weights": weights}
            (self.path / "result.json").write_text(json.dumps(result))


def run(rank: int, world: int, per_node: int, config: TrainConfig, models: Path, path: Path, port: int) -> None:
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    # A softmax ignores keys' biases: their gradients are rounding alone, of which a tiny epsilon would make steps.
    optimizer = OptimizerConfig(beta2=0.96, epsilon=1e-5, clip_norm=4.0, ema_decay=0.99)
    settings = PriorTaskConfig(
        model=SIZES, optimizer=optimizer, lr=1e-2, warmup_steps=1, bpe_dropout=0.1, caption_dropout=0.1
    )
    task = PriorTask(settings, str(models / "tokenizer"), str(models / "dvae"))
    worker = Worker(rank, world, per_node)
    TrainLoop(task, config, InMemorySource(columns()), columns(), Files(path, worker), worker).run()
    if world > 1:
        dist.destroy_process_group()


def spawn(world: int, per_node: int, config: TrainConfig, models: Path, path: Path) -> dict:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(run, (world, per_node, config, models, path, port), nprocs=world)
    return results(path)


def results(path: Path) -> dict:
    return json.loads((path / "result.json").read_text())


def check_equal(ours: dict, theirs: dict) -> None:
    assert set(ours["losses"]) <= set(theirs["losses"])
    for step, loss in ours["losses"].items():
        assert loss == pytest.approx(theirs["losses"][step], rel=1e-5), step
    for name, weight in ours["weights"].items():
        np.testing.assert_allclose(weight, theirs["weights"][name], rtol=1e-3, atol=2e-5, err_msg=name)
    assert ours["metrics"]["nats_per_image_token"] == pytest.approx(theirs["metrics"]["nats_per_image_token"], rel=1e-4)


def test_a_batch_in_parts_is_the_batch_in_one(models, alone, tmp_path):
    run(0, 1, 1, replace(ALONE, accumulate=4), models, tmp_path, 0)
    check_equal(results(tmp_path), alone)


def test_recomputed_activations_change_nothing(models, alone, tmp_path):
    run(0, 1, 1, replace(ALONE, recompute=True), models, tmp_path, 0)
    assert results(tmp_path)["losses"] == alone["losses"]


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
def test_workers_train_as_one_does(world, per_node, settings, models, alone, tmp_path):
    check_equal(spawn(world, per_node, replace(ALONE, workers=world, **settings), models, tmp_path), alone)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_fp16_trains_as_fp32_does(parallel, models, alone, tmp_path):
    settings = replace(ALONE, workers=2, precision="fp16", parallel=parallel)
    halves = spawn(2, 2, settings, models, tmp_path)
    for step, loss in halves["losses"].items():
        assert loss == pytest.approx(alone["losses"][step], rel=2e-3)


@pytest.mark.slow
def test_a_checkpoint_of_shards_is_taken_up_by_other_workers_in_other_ways(models, alone, tmp_path):
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
def test_compressed_gradients_go_on_with_their_errors(models, tmp_path):
    settings = replace(ALONE, workers=2, powersgd_rank=1)
    full_tensor = spawn(2, 2, settings, models, tmp_path)
    errors = {n: e for n, e in saved(tmp_path / "step_3").items() if n.startswith("error/")}
    assert errors
    assert all(error.any() for error in errors.values())
    (tmp_path / "step_6").rename(tmp_path / "unused")
    resumed = spawn(2, 2, settings, models, tmp_path)
    assert resumed["begun"] == 3
    assert resumed["weights"] == full_tensor["weights"]
    assert resumed["losses"] == {step: loss for step, loss in full_tensor["losses"].items() if int(step) > 3}


def saved(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_tensors(checkpoint / "state-00000-of-00001.safetensors")


def test_nodes_that_cannot_hold_a_whole_model_each_are_refused():
    from t2i.train.parallel import strategy

    with pytest.raises(UserError, match="3 workers do not fill nodes of 2"):
        strategy(replace(ALONE, parallel="hybrid"), Worker(0, 3, 2))
