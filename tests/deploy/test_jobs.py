"""The commands of jobs are ones that the jobs take, with the variables that their pods have."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from t2i.config import ConfigError, load_config
from tests.deploy.manifests import Document, name_of, of_kind, overlay

CONFIGS = {
    "prepare_pairs": "PreparePairsConfig",
    "train_tokenizer": "TrainTokenizer",
    "train_dvae": "TrainDVAE",
    "encode_images": "EncodeImagesConfig",
    "train_prior": "TrainPrior",
    "train_clip": "TrainCLIP",
    "coco_eval": "CocoEval",
}


def words_of(entrypoint: str, settings: dict[str, str]) -> list[str]:
    """What a shell makes of a job's command, word by word, with the variables of its pods."""
    script = f"set -u; printf '%s\\0' {entrypoint}"
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": "/usr/bin:/bin"} | settings, capture_output=True, check=True
    )
    return done.stdout.decode().rstrip("\0").split("\0")


def load(entrypoint: str, settings: dict[str, str]) -> Any:
    """The configuration that a job reads from its command."""
    python, script, *words = words_of(entrypoint, settings)
    job = Path(script).stem
    assert (python, script) == ("python", f"/app/jobs/{job}.py")
    return load_config(getattr(importlib.import_module(job), CONFIGS[job]), job, words)


def settings_of(name: str, runs: Path) -> dict[str, str]:
    """The variables of an overlay's pods, with the laptop's runs where this test can write."""
    (settings,) = [each for each in of_kind(overlay(name), "ConfigMap") if each["metadata"]["name"] == "t2i-settings"]
    return {key: value.replace("/runs/tiny", str(runs / "tiny")) for key, value in settings["data"].items()}


@pytest.mark.parametrize("name", ["laptop", "gpu", "spot"])
def test_every_job_takes_its_command(name: str, tmp_path: Path) -> None:
    settings = settings_of(name, tmp_path)
    jobs = of_kind(overlay(f"{name}/jobs"), "RayJob")
    loaded = {name_of(job): load(job["spec"]["entrypoint"], settings) for job in jobs}
    assert {type(config).__name__ for config in loaded.values()} == set(CONFIGS.values())
    trained = loaded["RayJob t2i-train-prior"]
    assert (trained.run, trained.train.workers) == (settings["T2I_RUN"], int(settings["T2I_WORKERS"]))
    assert trained.train.gpus_per_worker == int(settings["T2I_GPUS"])


def test_a_misspelt_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stesp"):
        load("python /app/jobs/train_prior.py run=$T2I_RUN train.stesp=3", settings_of("laptop", tmp_path))


def test_a_variable_that_no_pod_has_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        load("python /app/jobs/train_prior.py run=$T2I_RNU", settings_of("laptop", tmp_path))


@pytest.mark.parametrize("name", ["gpu", "spot"])
def test_trainings_have_all_their_workers_from_the_start(name: str) -> None:
    """A training counts the cores when it begins, and shares them out to its workers."""
    wanted = int(settings_of(name, Path("/"))["T2I_WORKERS"])
    for job in of_kind(overlay(f"{name}/jobs"), "RayJob"):
        trains = job["metadata"]["labels"]["job"] in {"train-dvae", "train-prior", "train-clip"}
        assert minimum(job) == (wanted if trains else 1)


def minimum(job: Document) -> int:
    """The workers that a job's cluster always has."""
    return sum(group["minReplicas"] for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"])


@pytest.mark.parametrize("name", ["gpu", "spot"])
def test_each_night_evaluates_as_the_job_does(name: str) -> None:
    (evaluate,) = [each for each in overlay(f"{name}/jobs") if each["metadata"]["labels"]["job"] == "evaluate"]
    (cron,) = of_kind(overlay(name), "RayCronJob")
    assert cron["spec"]["jobTemplate"] == evaluate["spec"]
