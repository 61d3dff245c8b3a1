"""PowerSGD on two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.checkpoint import load_tensors, save_tensors
from t2i.train.optim.powersgd import PowerSGD
from tests.t2i.train.tiny import free_port
from tests.workers import run_workers

STEPS = 30
N, M, RANK = 24, 16, 2


def gradients(rank: int) -> list[Tensor]:
    """Random matrices [N, M] for the steps of one worker."""
    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(N, M, generator=generator) for _ in range(STEPS)]


def work(rank: int, port: int, path: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    layer = nn.Linear(M, N)
    nn.init.zeros_(layer.weight)
    module = DistributedDataParallel(layer)
    compression = PowerSGD(dict(layer.named_parameters()), RANK, seed=0)
    compression.attach(module)
    sent, biases = [], []
    for gradient in gradients(rank):
        layer.zero_grad()
        # The loss whose gradient in the weight is ``gradient``, and in the bias its first column.
        inputs = torch.eye(M)
        (module(inputs) * gradient.T).sum().backward()
        assert layer.weight.grad is not None
        assert layer.bias.grad is not None
        sent.append(layer.weight.grad.clone())
        biases.append(layer.bias.grad.clone())
    before = next(iter(compression._compressions.values())).error.clone()
    settled = compression.settle_errors()["weight"].clone()
    layer.zero_grad()
    (module(torch.eye(M)) * torch.full((M, N), torch.inf)).sum().backward()
    after = compression.settle_errors()["weight"]
    tensors = {"sent": torch.stack(sent), "bias": torch.stack(biases)}
    save_tensors(Path(path, str(rank)), tensors | {"error": before, "settled": settled, "after": after})
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    path = tmp_path_factory.mktemp("workers")
    run_workers(work, (free_port(), str(path)))
    return [load_tensors(path / str(rank)) for rank in range(2)]


@pytest.mark.slow
def test_workers_agree_on_low_rank_gradients_and_plain_biases(workers: list[dict[str, Tensor]]) -> None:
    for ours, theirs in zip(workers[0]["sent"], workers[1]["sent"], strict=True):
        torch.testing.assert_close(ours, theirs)
        assert torch.linalg.matrix_rank(ours) == RANK
    for step, bias in enumerate(workers[0]["bias"]):
        expected = torch.stack([gradients(rank)[step].sum(dim=1) for rank in range(2)]).mean(dim=0)
        torch.testing.assert_close(bias, expected)


@pytest.mark.slow
def test_what_was_not_sent_is_in_the_error_buffers(workers: list[dict[str, Tensor]]) -> None:
    """Sent so far + mean error = mean of all gradients: nothing is lost."""
    mean = torch.stack([torch.stack(gradients(rank)).sum(dim=0) for rank in range(2)]).mean(dim=0)
    error = torch.stack([worker["error"] for worker in workers]).mean(dim=0)
    torch.testing.assert_close(workers[0]["sent"].sum(dim=0) + error, mean, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_settled_errors_are_the_mean_on_every_worker(workers: list[dict[str, Tensor]]) -> None:
    for worker in workers:
        expected = torch.stack([other["error"] for other in workers]).mean(dim=0)
        torch.testing.assert_close(worker["settled"], expected)


@pytest.mark.slow
def test_an_overflow_leaves_the_errors_as_they_were(workers: list[dict[str, Tensor]]) -> None:
    assert torch.equal(workers[0]["after"], workers[0]["settled"])
