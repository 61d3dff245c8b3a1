from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.presets import get_preset
from t2i.config import ConfigError, load_config
from t2i.storage import DataError
from train_clip import TrainCLIP
from train_dvae import TrainDVAE
from train_prior import TrainPrior, main
from train_tokenizer import TrainTokenizer

ROOT = Path(__file__).resolve().parents[2]
JOBS: dict[str, type] = {
    "train_dvae": TrainDVAE,
    "train_tokenizer": TrainTokenizer,
    "train_prior": TrainPrior,
    "train_clip": TrainCLIP,
}


@pytest.mark.parametrize("job", JOBS)
def test_every_job_has_a_tiny_preset(job: str) -> None:
    config: Any = load_config(JOBS[job], job, [])
    assert config.run == f"{Path.cwd()}/runs/tiny"


def test_a_preset_brings_its_sizes() -> None:
    preset = get_preset("12b")
    dvae = load_config(TrainDVAE, "train_dvae", ["preset=12b"])
    assert (dvae.task.model, dvae.task.image_size) == (preset.dvae, 256)
    assert dvae.task.beta_end == 6.6
    assert load_config(TrainPrior, "train_prior", ["preset=12b"]).task.model == preset.prior
    assert load_config(TrainTokenizer, "train_tokenizer", ["preset=12b"]).vocabulary == 16384
    assert load_config(TrainCLIP, "train_clip", ["preset=12b"]).image_size == 256


def test_schedules_end_within_the_tiny_runs() -> None:
    dvae = load_config(TrainDVAE, "train_dvae", [])
    assert max(dvae.task.lr_steps, dvae.task.tau_steps, dvae.task.beta_steps) <= dvae.train.steps
    prior = load_config(TrainPrior, "train_prior", [])
    assert prior.task.warmup_steps < prior.task.lr_steps <= prior.train.steps


@pytest.mark.parametrize(
    ("job", "argument", "message"),
    [
        ("train_dvae", "train.batch_size=0", "train.batch_size is 0: use at least 1"),
        ("train_dvae", "task.image_size=30", "task.image_size is 30: use a multiple of 4"),
        ("train_tokenizer", "vocabulary=100", "vocabulary is 100: use at least 256"),
        ("train_prior", "task.caption_weights=[-1]", "task.caption_weights has -1.0: use at least 0"),
    ],
)
def test_impossible_settings_end_in_one_sentence(job: str, argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(JOBS[job], job, [argument])


def test_the_prior_says_what_must_be_run_before_it(tmp_path: Path) -> None:
    config = load_config(TrainPrior, "train_prior", [f"run={tmp_path}"])
    with pytest.raises(DataError, match=r"has no complete set of image tokens: run jobs/encode_images\.py first"):
        main(config)


@pytest.mark.ray
@pytest.mark.slow
def test_the_tokenizer_job_learns_once_and_then_leaves_it(tmp_path: Path) -> None:
    command = [sys.executable, "jobs/train_tokenizer.py", f"run={tmp_path}", "source.limit=200", "ray.cpus=1"]
    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr
    tokens = len(json.loads((tmp_path / "tokenizer/tokenizer.json").read_text())["model"]["vocab"])
    assert f"tokenizer: {tokens} tokens" in first.stdout
    assert "already complete" in second.stdout
    other = subprocess.run([*command, "vocabulary=300"], cwd=ROOT, capture_output=True, text=True)
    assert other.returncode == 2
    assert "vocabulary (2048 -> 300): name another run directory." in other.stderr
