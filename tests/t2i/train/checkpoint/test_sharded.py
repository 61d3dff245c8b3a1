"""Optimizer, clipping and average of a model whose parameters are FSDP2's shards, beside those of a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from models.errors import UserError
from models.sharded import full_tensor
from t2i.train.optim.adamw import (
    OptimizerConfig,
    build_optimizer,
    clip_gradients,
    optimizer_tensors,
    set_lr,
)
from t2i.train.optim.ema import EMA
from tests.workers import run_workers

CONFIG = OptimizerConfig(clip_norm=0.1, ema_every=2)


class Trainee:
    """A small model with all that moves it; ``sharded`` over the workers, unevenly: 5 rows over two."""

    def __init__(self, sharded: bool) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 4))
        if sharded:
            fully_shard(self.model[2])
            fully_shard(self.model)
        self.optimizer = build_optimizer(self.model, CONFIG)
        self.ema = EMA(self.model, 0.9, CONFIG.ema_every)

    def loss(self, step: int) -> Tensor:
        loss: Tensor = self.model(torch.randn(6, 4, generator=torch.Generator().manual_seed(step))).square().mean()
        return loss

    def update(self, step: int) -> Tensor:
        self.optimizer.zero_grad()
        self.loss(step).backward()
        if step == 1:
            self.model.get_parameter("0.bias").grad = None  # as a block that overflowed
        norm = clip_gradients(self.model.parameters(), CONFIG.clip_norm)
        set_lr(self.optimizer, 0.01)
        self.ema.before_step()
        self.optimizer.step()
        self.ema.update(step)
        return norm

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Everything a checkpoint holds, gathered."""
        parts = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": optimizer_tensors(self.model, self.optimizer),
        }
        return {part: {name: full_tensor(tensor) for name, tensor in of.items()} for part, of in parts.items()}


def assert_same(ours: dict[str, dict[str, Tensor]], theirs: dict[str, dict[str, Tensor]]) -> None:
    for part, tensors in theirs.items():
        assert set(ours[part]) == set(tensors)
        for name, tensor in tensors.items():
            assert torch.allclose(ours[part][name], tensor), (part, name)


def two_workers(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    single, sharded = Trainee(sharded=False), Trainee(sharded=True)
    for step in range(6):
        ours, theirs = sharded.update(step), single.update(step)
        assert type(ours) is Tensor
        assert ours.item() == pytest.approx(theirs.item())
    assert_same(sharded.tensors(), single.tensors())

    with pytest.raises(ValueError, match="the model is sharded"):
        sharded.ema.model  # noqa: B018
    with pytest.raises(UserError, match="adamw8bit, which sharded parameters do not have"):
        build_optimizer(sharded.model, OptimizerConfig(kind="adamw8bit"))
    dist.destroy_process_group()


@pytest.mark.slow
def test_shards_train_and_average_as_the_whole_does(tmp_path: Path) -> None:
    run_workers(two_workers, (tmp_path,))
