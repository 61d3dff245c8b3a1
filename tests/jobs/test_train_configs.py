from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import train_tokenizer
from models.errors import UserError
from models.presets import get_preset
from t2i.config import ConfigError, load_config
from t2i.storage import DataError
from train_clip import TrainCLIP, image_size
from train_dvae import TrainDVAE
from train_prior import TrainPrior, check_sizes, main
from train_tokenizer import TrainTokenizer

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
    assert load_config(TrainCLIP, "train_clip", ["preset=12b"]).task.model == preset.clip


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
        ("train_clip", "image_size=0", "image_size is 0: use at least 1"),
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


@pytest.mark.parametrize(
    ("grid", "codes", "vocabulary", "fields"),
    [
        ([16, 16], 1024, 300, "grid_height=16 task.model.grid_width=16 task.model.codebook_size=1024"),
        ([8, 8], 128, 300, "codebook_size=128"),
        ([8, 8], 256, 4096, "text_vocabulary=4096"),
    ],
)
def test_a_preset_whose_prior_does_not_fit_the_run_is_refused(
    grid: list[int], codes: int, vocabulary: int, fields: str
) -> None:
    config, tokens = load_config(TrainPrior, "train_prior", []), {"grid": grid, "codebook_size": codes}
    with pytest.raises(UserError, match=rf"^preset is 'tiny', .* of /.*/runs/tiny: .* or set task\.model\.{fields}"):
        check_sizes(config, tokens, vocabulary)
    words = [f"task.model.{word.removeprefix('task.model.')}" for word in fields.split()]
    check_sizes(load_config(TrainPrior, "train_prior", words), tokens, vocabulary)


@pytest.mark.parametrize(
    ("record", "words", "size"),
    [("task: {image_size: 48}", [], 48), ("task: {image_size: 48}", ["image_size=64"], 64), (None, [], 32)],
)
def test_the_reranker_sees_images_as_large_as_the_runs_dvae_draws(
    tmp_path: Path, record: str | None, words: list[str], size: int
) -> None:
    if record:
        (tmp_path / "dvae").mkdir()
        (tmp_path / "dvae" / "config.yaml").write_text(record)
    assert image_size(load_config(TrainCLIP, "train_clip", [f"run={tmp_path}", *words])) == size


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_tokenizer_job_learns_once_and_then_leaves_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"run={tmp_path}", "source.limit=200"]
    train_tokenizer.main(load_config(TrainTokenizer, "train_tokenizer", words))
    tokens = len(json.loads((tmp_path / "tokenizer/tokenizer.json").read_text())["model"]["vocab"])
    assert f"tokenizer: {tokens} tokens" in capsys.readouterr().out
    train_tokenizer.main(load_config(TrainTokenizer, "train_tokenizer", words))
    assert "already complete" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"vocabulary \(2048 -> 300\): name another run directory\."):
        train_tokenizer.main(load_config(TrainTokenizer, "train_tokenizer", [*words, "vocabulary=300"]))
