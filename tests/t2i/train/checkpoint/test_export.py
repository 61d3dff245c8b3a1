"""The model in a checkpoint is its EMA, whether one worker wrote the checkpoint or two its shards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from models.checkpoint import load_model
from models.prior import Prior, PriorConfig
from t2i.train.checkpoint.export import export_ema
from t2i.train.checkpoint.state import Snapshot, TrainState
from t2i.train.optim.adamw import OptimizerConfig, build_optimizer
from t2i.train.optim.ema import EMA
from t2i.train.optim.plateau import Plateau, PlateauConfig
from tests.t2i.train.tiny import tiny_prior
from tests.workers import run_workers

CONFIG = {"task": {"model": asdict(tiny_prior())}}


def averaged(name: str) -> float:
    """Return the value that every element of a tensor has in the EMA."""
    return sum(name.encode()) / 1000


def write(directory: Path, rank: int, writers: int) -> None:
    model: nn.Module = Prior(tiny_prior())
    if writers > 1:
        fully_shard(model)
    ema = EMA(model, 0.9, 1)
    with torch.no_grad():
        for name, tensor in ema.state_dict().items():
            if tensor.is_floating_point():
                tensor.fill_(averaged(name))
    state = TrainState(model, ema, build_optimizer(model, OptimizerConfig()), Plateau(PlateauConfig()), step=7)
    Snapshot.of(state, CONFIG, rank, writers).write(directory, rank, writers)


def worker(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    write(directory / "checkpoint", rank, 2)
    dist.destroy_process_group()


def check(checkpoint: Path, directory: Path) -> None:
    prior = load_model(Prior, PriorConfig, export_ema(checkpoint, directory))
    assert prior.config == tiny_prior()
    for name, tensor in prior.named_parameters():
        assert torch.equal(tensor, torch.full_like(tensor, averaged(name))), name


def test_of_one_worker(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", 0, 1)
    check(tmp_path / "checkpoint", tmp_path / "model")


@pytest.mark.slow
def test_of_two_workers_that_wrote_shards(tmp_path: Path) -> None:
    run_workers(worker, (tmp_path,))
    check(tmp_path / "checkpoint", tmp_path / "model")
