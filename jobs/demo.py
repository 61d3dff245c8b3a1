#!/usr/bin/env python
"""The whole system in one run: draw with the shipped models; train and measure tiny ones; serve the shipped ones.

Run again, it reuses what is finished.

    python jobs/demo.py            (or: make demo)

Every stage is a job of its own with its own --help; this one only calls them in order, on one Ray.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coco_eval
import encode_images
import generate
import train_clip
import train_dvae
import train_prior
import train_tokenizer
from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import load_config, run_job
from t2i.sampling import SamplingParams
from t2i.serve.config import ServeConfig
from t2i.serve.launch import launch_service

VAL = "[{name: val, source: {path: jobs/datasets/emoji64/val.parquet}}]"


@dataclass(frozen=True)
class Stage:
    """A job of the demo, and the words by which it takes less time than the preset alone would."""

    title: str
    main: Callable[[Any], None]
    config: type
    job: str
    words: tuple[str, ...] = ()


STAGES = [
    Stage("Learn the captions' vocabulary", train_tokenizer.main, train_tokenizer.TrainTokenizer, "train_tokenizer"),
    Stage("Train the dVAE: images into tokens and back", train_dvae.main, train_dvae.TrainDVAE, "train_dvae"),
    Stage("Turn the images into tokens", encode_images.main, encode_images.EncodeImagesConfig, "encode_images"),
    Stage(
        "Train the prior: text and image tokens as one stream", train_prior.main, train_prior.TrainPrior, "train_prior"
    ),
    Stage(
        "Train the reranker, a CLIP, on a quarter of the images",
        train_clip.main,
        train_clip.TrainCLIP,
        "train_clip",
        ("data.train.limit=1800", "train.steps=250", "task.lr_steps=250"),
    ),
    Stage(
        "Draw, rank and measure held-out captions",
        coco_eval.main,
        coco_eval.CocoEval,
        "coco_eval",
        (f"sets={VAL}", "captions=64", "training_images=100", "generate.actors=1", "extract.actors=1"),
    ),
]


@dataclass
class Demo:
    """Which preset to train, and where everything is written."""

    preset: str = setting("tiny", "model sizes, and the YAML files of all stages")
    run: str = setting("runs/${preset}", "run directory for everything that is made", path="written")
    trained: str = setting(
        "models/trained/small", "models that come with the code, trained for longer, to be served", path="read"
    )
    captions: list[str] = setting(
        lambda: ["a red heart, flat", "smiling face, Noto emoji style", "a blue circle"],
        "what the shipped models draw; the service is asked for the first of them",
    )
    ray: RayConfig = setting(RayConfig, "where to run")


def main(config: Demo) -> None:
    """Run all stages in order, and say at the end where everything is."""
    begin = time.monotonic()
    announce(1, f"Draw with {config.trained}, the models that come with the code", begin)
    drawn = draw(config)
    start_ray(config.ray)
    for number, stage in enumerate(STAGES, start=2):
        announce(number, stage.title, begin)
        preset = [f"preset={config.preset}"] if hasattr(stage.config, "for_preset") else []  # others ask the run
        words = [*preset, f"run={config.run}", *stage.words]
        stage.main(load_config(stage.config, stage.job, words))
    announce(len(STAGES) + 2, f"Serve {config.trained} over gRPC and ask for images", begin)
    images = ask_a_service(config)
    print(f"\nDone in {clock(begin)}. Look at:")
    for path in (drawn, f"{config.run}/eval/val/contact_sheet.png", f"{config.run}/eval/report.html", f"{images}/"):
        print(f"  {path}")
    print(f"Serve it yourself: make serve RUN={config.trained}, then, in another terminal:")
    print(f"  .venv/bin/t2i {shlex.join(asking(config.captions[0]))}")


def draw(config: Demo) -> Path:
    """Draw the captions with the shipped models, within a minute; return the sheet that shows the images."""
    out = Path(config.run) / "shipped"
    tidy = SamplingParams(temperature=0.9, top_p=0.95)
    generate.main(
        generate.GenerateConfig(run=config.trained, captions=config.captions, candidates=8, sampling=tidy, out=str(out))
    )
    return out / "contact_sheet.png"


def ask_a_service(config: Demo) -> Path:
    """Start the service, send it one request from a client in another process, stop it; return the images' folder."""
    images = Path(config.run) / "served"
    with launch_service(ServeConfig(run=config.trained, port=0)) as address:
        print(f"serving on {address}", flush=True)
        client = [str(Path(sys.executable).with_name("t2i")), *asking(config.captions[0])]
        subprocess.run([*client, "--out", str(images), "--server", address], check=True)
    return images


def asking(caption: str) -> list[str]:
    """Return the client's arguments: keep the best two of sixteen images, drawn with somewhat less randomness."""
    return ["generate", caption, "-n", "16", "-k", "2", "--temperature", "0.9", "--top-p", "0.95"]


def announce(number: int, title: str, begin: float) -> None:
    """Print a line that says which stage begins."""
    print(f"\n[{clock(begin)}] {number}/{len(STAGES) + 2}  {title}", flush=True)


def clock(begin: float) -> str:
    """Return the time since ``begin`` as minutes and seconds."""
    minutes, seconds = divmod(round(time.monotonic() - begin), 60)
    return f"{minutes}:{seconds:02d}"


if __name__ == "__main__":
    run_job(main, Demo, "demo")
