"""The paper's fp16 recipe on a tiny prior: gradients, skipped blocks, the rule of the scales, resuming, wrappers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from models.checkpoint import load_tensors, save_tensors
from models.dvae import DVAE, DVAEConfig, evidence_lower_bound
from models.gradient_scaling import GradientScales, LossScale, ResblockScales, gradient_scales
from models.prior import Prior, PriorConfig, prior_loss
from models.prior.transformer import Block
from models.sharded import full_tensor
from tests.workers import run_workers

CONFIG = PriorConfig(3, 2, 16, text_length=8, text_vocabulary=50, grid_height=4, grid_width=4, codebook_size=32)


class Trainee(nn.Module):
    """A prior whose forward is its loss in fp16, as the training loop has it."""

    def __init__(self, fp16: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.prior = Prior(CONFIG)
        self.fp16 = fp16
        self.overflows = False

    def forward(self, rows: int = 4, seed: int = 1) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        text = torch.randint(50, (rows, 8), generator=random)
        image_tokens = torch.randint(32, (rows, 16), generator=random)
        with torch.autocast("cpu", torch.float16, enabled=self.fp16):
            return prior_loss(self.prior, text, image_tokens).loss


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def gradient(model: nn.Module, name: str) -> Tensor:
    found = model.get_parameter(name).grad
    assert found is not None, name
    return found


def all_gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: gradient(model, name) for name, _ in model.named_parameters()}


def on_output(module: nn.Module, act: Callable[[Tensor], object]) -> None:
    """Call ``act`` with every output of a module."""

    def hook(*call: Any) -> None:
        act(call[-1])

    module.register_forward_hook(hook)


def update(trainee: nn.Module, scales: GradientScales, optimizer: torch.optim.Optimizer, seed: int = 1) -> float:
    optimizer.zero_grad()
    loss = trainee(seed=seed)
    scales.scale_loss(loss).backward()
    if trainee.overflows:
        gradient(trainee, "prior.blocks.0.mlp.0.weight")[0, 0] = math.inf
    scales.unscale()
    optimizer.step()
    scales.update()
    return loss.item()


def adamw(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)


def of_block(name: str, block: int, branch: str) -> bool:
    return name.startswith(f"prior.blocks.{block}.{branch}")


def test_gradients_are_those_of_fp32_to_fp16s_precision() -> None:
    exact, trainee = Trainee(fp16=False), Trainee()
    scales = ResblockScales(trainee)
    exact().backward()
    trainee().backward()
    assert scales.unscale() == 0
    theirs = all_gradients(exact)
    for name, ours in all_gradients(trainee).items():
        assert (ours - theirs[name]).norm() < 4e-3 * theirs[name].norm(), name


def test_a_tiny_gradient_survives_only_with_scales() -> None:
    """A loss of 1e-6 times the usual: every fp16 gradient is subnormal or 0 unless it is scaled."""

    def error(scaled: bool) -> float:
        exact, trainee = Trainee(fp16=False), Trainee()
        scales = ResblockScales(trainee) if scaled else None
        (1e-6 * exact()).backward()
        (1e-6 * trainee()).backward()
        if scales:
            scales.unscale()
        ours, theirs = (gradient(model, "prior.blocks.0.mlp.0.weight") for model in (trainee, exact))
        return ((ours - theirs).norm() / theirs.norm()).item()

    assert error(scaled=True) < 0.05
    assert error(scaled=False) > 0.5


def test_heads_logits_and_the_identity_path_are_fp32() -> None:
    trainee = Trainee()
    seen: list[torch.dtype] = []
    ResblockScales(trainee)
    for module in (trainee.prior.blocks[1], trainee.prior.text_head, trainee.prior.image_head):
        on_output(module, lambda output: seen.append(output.dtype))
    on_output(trainee.get_submodule("prior.blocks.1.mlp.0"), lambda output: seen.append(output.dtype))
    trainee()
    assert seen == [torch.float16, torch.float32, torch.float32, torch.float32]


def test_without_scales_a_block_is_the_plain_sum() -> None:
    block, x = Trainee().prior.blocks[0], torch.randn(2, 5, 32)
    assert isinstance(block, Block)
    attend = Trainee().prior.dense["row"]
    middle = x + block.attention(block.attention_norm(x), attend)
    assert torch.equal(block(x, attend), middle + block.mlp(block.mlp_norm(middle)))


def test_scales_leave_no_trace_in_the_state_dict() -> None:
    trainee = Trainee()
    names = list(trainee.state_dict())
    ResblockScales(trainee)
    assert list(trainee.state_dict()) == names
    assert not any("add_" in name for name in names)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_non_finite_parameter_gradient_skips_its_block_and_no_other(value: float) -> None:
    clean, hurt = Trainee(), Trainee()
    weight = hurt.get_parameter("prior.blocks.1.mlp.0.weight")
    weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(3), value))
    initial = copy.deepcopy(hurt.state_dict())
    scales = {trainee: ResblockScales(trainee) for trainee in (clean, hurt)}
    for trainee in (clean, hurt):
        update(trainee, scales[trainee], adamw(trainee))
    theirs = dict(clean.named_parameters())
    for name, ours in hurt.named_parameters():
        assert torch.equal(ours, initial[name] if of_block(name, 1, "mlp") else theirs[name]), name
    assert (scales[hurt].state_dict()["scale"] < 2**13).tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_non_finite_activation_gradient_does_not_reach_earlier_blocks(value: float) -> None:
    clean, hurt = Trainee(), Trainee()
    hidden = hurt.get_submodule("prior.blocks.1.mlp.1")
    on_output(hidden, lambda output: output.register_hook(lambda gradient: gradient * value))
    scales = {trainee: ResblockScales(trainee) for trainee in (clean, hurt)}
    for trainee in (clean, hurt):
        trainee().backward()
        scales[trainee].unscale()
    theirs = all_gradients(clean)
    for name, ours in gradients(hurt).items():
        if of_block(name, 1, "mlp"):
            assert ours is None
            continue
        assert ours is not None
        if name.startswith(("prior.blocks.2.", "prior.norm", "prior.text_head", "prior.image_head")):
            assert torch.equal(ours, theirs[name]), name  # later ones
        else:
            assert ours.isfinite().all(), name
            assert ours.any(), name


class OneGroup:
    """Scales of a single parameter, driven by whether its gradient is finite."""

    def __init__(self, workers: int = 1) -> None:
        self.parameter = nn.Parameter(torch.zeros(2))
        self.scales = GradientScales({"it": [self.parameter]}, workers)

    def after(self, finite: bool) -> float:
        self.parameter.grad = torch.tensor([1.0, 1.0 if finite else math.inf])
        self.scales.unscale()
        self.scales.update()
        return self.scales.state_dict()["scale"].item()


def test_a_scale_begins_at_two_to_the_13_a_worker_and_doubles_in_1000_updates() -> None:
    group = OneGroup(workers=3)
    assert group.scales.state_dict()["scale"].item() == 3 * 2**13
    assert [group.after(finite=True) for _ in range(1000)][-1] == pytest.approx(6 * 2**13, rel=1e-4)


def test_a_non_finite_update_divides_by_the_root_of_2_but_once_in_125() -> None:
    group = OneGroup()
    after = [group.after(finite=False) for _ in range(251)]
    assert after[0] == after[124] == pytest.approx(2**13 / math.sqrt(2))
    assert after[125] == after[249] == pytest.approx(2**12)
    assert after[250] == pytest.approx(2**12 / math.sqrt(2))


def test_within_the_window_finite_updates_still_grow() -> None:
    group = OneGroup()
    after = [group.after(finite) for finite in (False, True, False)]
    assert after[1] == after[2] == pytest.approx(2**13 / math.sqrt(2) * 2 ** (1 / 1000))


def test_scales_are_clamped() -> None:
    low, high = OneGroup(workers=2), OneGroup(workers=2)
    low.scales.load_state_dict({"scale": torch.tensor([2 * 2.0**7]), "since": torch.tensor([125])})
    high.scales.load_state_dict({"scale": torch.tensor([2 * 2.0**24]), "since": torch.tensor([125])})
    assert low.after(finite=False) == 2 * 2**7
    assert high.after(finite=True) == 2 * 2**24


def test_unscaling_divides_by_the_scale_and_passes_over_missing_gradients() -> None:
    used, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    scales = GradientScales({"some": [used, unused], "none": [unused]})
    used.grad = torch.full((2,), 2.0**13)
    assert scales.unscale() == 0
    assert used.grad.tolist() == [1.0, 1.0]
    assert unused.grad is None


def test_a_group_is_skipped_if_any_worker_says_so() -> None:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    scales = GradientScales(
        {str(i): [p] for i, p in enumerate(parameters)}, all_reduce_min=lambda flags: flags * torch.tensor([1.0, 0.0])
    )
    for parameter in parameters:
        parameter.grad = torch.ones(2)
    assert scales.unscale() == 1
    assert [parameter.grad is None for parameter in parameters] == [False, True]


def test_training_goes_on_bit_for_bit_from_saved_scales(tmp_path: Path) -> None:
    trainee = Trainee()
    scales, optimizer = ResblockScales(trainee), adamw(trainee)
    for step in range(4):
        trainee.overflows = step == 1
        update(trainee, scales, optimizer, seed=step)
    resumed, moments = copy.deepcopy(trainee), copy.deepcopy(optimizer.state_dict())
    save_tensors(tmp_path / "scales.safetensors", scales.state_dict())
    scales_too, optimizer_too = ResblockScales(resumed), adamw(resumed)
    scales_too.load_state_dict(load_tensors(tmp_path / "scales.safetensors"))
    optimizer_too.load_state_dict(moments)
    for step in range(4, 8):
        trainee.overflows = resumed.overflows = step == 5
        assert update(trainee, scales, optimizer, step) == update(resumed, scales_too, optimizer_too, step)
    ours, theirs = scales.state_dict(), scales_too.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ("scale", "since"))
    assert ours["since"].tolist() == [125 + 8 if scale > 2**13 else 7 for scale in ours["scale"].tolist()]
    with pytest.raises(ValueError, match="6 gradient scales, the model 1"):
        OneGroup().scales.load_state_dict(ours)


def test_activation_checkpointing_changes_no_gradient() -> None:
    plain, frugal = Trainee(), Trainee()
    for block in frugal.prior.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for trainee in (plain, frugal):
        scales = ResblockScales(trainee)
        trainee().backward()
        scales.unscale()
    theirs = all_gradients(plain)
    assert all(torch.equal(ours, theirs[name]) for name, ours in all_gradients(frugal).items())


def test_the_scaled_model_is_one_graph_to_the_compiler() -> None:
    plain, compiled = Trainee(), Trainee()
    compiled.prior.compile(fullgraph=True, backend="aot_eager")
    for trainee in (plain, compiled):
        scales, optimizer = ResblockScales(trainee), torch.optim.SGD(trainee.parameters(), lr=0.1)
        for seed in range(2):  # the second time with other scales
            update(trainee, scales, optimizer, seed)
    for (name, ours), theirs in zip(compiled.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5), name


@pytest.mark.slow
def test_a_prior_learns_in_fp16_as_in_fp32() -> None:
    def losses(fp16: bool) -> list[float]:
        trainee = Trainee(fp16)
        scales = ResblockScales(trainee) if fp16 else LossScale(trainee)
        optimizer = adamw(trainee)
        return [update(trainee, scales, optimizer, seed=step % 4) for step in range(60)]

    ours, theirs = losses(fp16=True), losses(fp16=False)
    assert theirs[-1] < 0.5 * theirs[0]
    assert ours[-1] == pytest.approx(theirs[-1], rel=0.1)


def test_a_dvae_has_one_scale_for_its_loss() -> None:
    torch.manual_seed(0)
    exact = DVAE(DVAEConfig(16, groups=2, codebook_size=16, decoder_input_width=8))
    model, images = copy.deepcopy(exact), torch.rand(2, 3, 8, 8)
    scales = gradient_scales(model)
    assert isinstance(scales, LossScale)

    def loss(model: DVAE) -> Tensor:
        logits, maps = model(images, 1.0, [torch.Generator().manual_seed(0)])
        return evidence_lower_bound(images, maps, logits, beta=1.0).loss

    loss(exact).backward()
    with torch.autocast("cpu", torch.float16):
        scales.scale_loss(loss(model)).backward()
    assert scales.unscale() == 0
    ours, theirs = (nn.utils.parameters_to_vector(all_gradients(each).values()) for each in (model, exact))
    assert (ours - theirs).norm() < 0.02 * theirs.norm()


def all_workers(flags: Tensor) -> Tensor:
    dist.all_reduce(flags, dist.ReduceOp.MIN)
    return flags


def two_workers(rank: int, store: str, kind: str) -> None:
    """One update of two workers with half the rows each, the second of which overflows in one block."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    reference, trainee = Trainee(), Trainee()
    objective: Callable[..., Tensor]
    if kind == "ddp":
        objective = DistributedDataParallel(trainee)
    else:
        for block in trainee.prior.blocks:
            fully_shard(block)
        fully_shard(trainee)
        objective = trainee
    scales = ResblockScales(trainee, all_reduce_min=all_workers if kind == "fsdp" else None)
    single = ResblockScales(reference)
    if rank == 1:  # its activation gradient, in one row of the output layer's weight
        flood = torch.ones(CONFIG.width).index_fill(0, torch.tensor(0), math.inf)
        hurt = trainee.get_submodule("prior.blocks.1.attention.out")
        on_output(hurt, lambda output: output.register_hook(lambda gradient: gradient * flood.half()))
    objective(rows=2, seed=rank).backward()
    assert scales.unscale() == 1
    scales.update()
    assert (scales.state_dict()["scale"] < 2**13).tolist() == [False, False, True, False, False, False]
    for seed in range(2):
        (reference(rows=2, seed=seed) / 2).backward()
    single.unscale()
    theirs = all_gradients(reference)
    for name, ours in gradients(trainee).items():
        if of_block(name, 1, "attention"):
            assert ours is None, name
            continue
        assert ours is not None, name
        ours = full_tensor(ours)
        if name.startswith("prior.blocks.2."):  # later than the overflow
            assert (ours - theirs[name]).norm() < 4e-3 * theirs[name].norm(), name
        assert ours.isfinite().all(), name
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_all_workers_skip_what_overflowed_in_one(kind: str, tmp_path: Path) -> None:
    run_workers(two_workers, (str(tmp_path / "store"), kind))
