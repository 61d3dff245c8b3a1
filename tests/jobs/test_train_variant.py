"""Each variant of the prior differs from the paper's in what it says, and in nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.gradient_scaling import LossScale, ResblockScales, gradient_scales
from models.prior import Prior, PriorConfig, text_tensor
from tests.commands import make_workplace, run_job_here
from train_variant import VARIANTS, OneScalePrior, TrainVariant

CONFIG = PriorConfig(
    layers=3, heads=2, head_width=8, text_length=5, text_vocabulary=256, grid_height=4, grid_width=4, codebook_size=16
)


def made(variant: str) -> Prior:
    torch.manual_seed(0)
    return VARIANTS[variant](CONFIG).eval()


def a_stream(prior: Prior) -> Tensor:
    """One stream under a caption of two tokens, so that the positions 3 to 5 hold pads."""
    image_tokens = torch.arange(prior.layout.image_length)[None] % 16
    return prior.layout.inputs(text_tensor([[7, 9]], prior.layout), image_tokens)


@pytest.mark.parametrize(("variant", "sees_it"), [("paper", False), ("dense", True)])
@torch.no_grad()
def test_only_dense_attention_sees_the_first_image_token_from_the_last_in_one_layer(
    variant: str, sees_it: bool
) -> None:
    prior = VARIANTS[variant](replace(CONFIG, layers=1, grid_height=12, grid_width=12))
    stream = a_stream(prior)
    before = prior(stream)[0, -1]
    stream[0, prior.layout.prefix_length] += 1
    assert torch.equal(prior(stream)[0, -1], before) != sees_it


@torch.no_grad()
def test_masked_pads_are_seen_by_nothing_but_their_own_position() -> None:
    paper, masked = made("paper"), made("masked_pads")
    pads = [3, 4, 5]
    stream = a_stream(paper)
    elsewhere = [position for position in range(stream.shape[1]) if position not in pads]
    before = {name: prior(stream)[0, elsewhere] for name, prior in (("paper", paper), ("masked", masked))}
    for prior in (paper, masked):
        prior.tokens.weight[stream[0, pads]] += 1.0
    assert not torch.equal(paper(stream)[0, elsewhere], before["paper"])
    assert torch.equal(masked(stream)[0, elsewhere], before["masked"])


def test_all_variants_begin_with_the_paper_s_weights() -> None:
    weights = made("paper").state_dict()
    for variant in ("dense", "masked_pads", "one_scale"):
        assert all(torch.equal(weights[name], value) for name, value in made(variant).state_dict().items())


def test_a_prior_with_one_scale_computes_the_same() -> None:
    assert isinstance(gradient_scales(made("paper")), ResblockScales)
    assert isinstance(gradient_scales(OneScalePrior(CONFIG)), LossScale)
    stream = a_stream(made("paper"))
    assert torch.equal(made("paper")(stream), made("one_scale")(stream))


def test_an_unscaled_prior_has_a_scale_of_1_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INITIAL_SCALE", "MIN_SCALE", "MAX_SCALE"):
        monkeypatch.setattr(f"models.gradient_scaling.{name}", 8.0)  # undone after the test
    scales = gradient_scales(made("unscaled"))
    scales.unscale()
    scales.update()
    assert list(scales.named().values()) == [1.0]


def test_an_unknown_variant_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"^variant is 'sparse': use paper or dense or masked_pads or one_scale"):
        TrainVariant(variant="sparse")


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_cluster")
def test_a_variant_trains_as_the_prior_does(tmp_path: Path) -> None:
    folder = make_workplace(tmp_path)
    run = folder / "runs/mine"
    for part in ("tokenizer", "dvae"):
        shutil.copytree(folder / "models/trained/small" / part, run / part)
    source = ["data.train.path=pairs.parquet", "data.val.path=held_out.parquet"]
    run_job_here(folder, "jobs/encode_images.py", ["run=runs/mine", "image_size=64", *source])
    words = ["variant=masked_pads", "preset=small", "run=runs/mine", "train.steps=2", "train.batch_size=2"]
    run_job_here(folder, "jobs/benchmarks/train_variant.py", [*words, "train.precision=fp32", "task.lr_steps=2"])
    assert json.loads((run / "prior/metrics.json").read_text())["step"] == 2
    assert not list((run / "prior/pictures").glob("*"))
