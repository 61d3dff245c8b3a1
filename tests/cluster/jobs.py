"""Three jobs in a chain, all of whose data is in a store: encode images, train a prior on them, evaluate it.

Each tells how far it is and, at its end, what came of it, to be compared with the same jobs left in peace.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from models.checkpoint import save_model
from models.dvae import DVAE
from models.presets import get_preset
from models.reranker import CLIPConfig, CLIPReranker
from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.storage import filesystem_for, put_directory, read_file, write_file
from t2i.storage.files import all_files
from t2i.train.checkpoint.run_directory import RunDirectory, step_of
from tests.processes import ROOT

EMOJI = ROOT / "jobs/datasets/emoji64"


@dataclass(frozen=True)
class Sizes:
    """How much the jobs do: images to encode, steps of training, captions to draw; a piece is what a kill costs."""

    images: int = 120
    steps: int = 60
    captions: int = 24
    pieces: int = 12


@dataclass(frozen=True)
class Job:
    """A command, how many of its pieces are finished, and what came of it."""

    name: str
    words: list[str]
    finished: Callable[[], int]
    result: Callable[[], Any]


def write_inputs(store: str, folder: Path) -> None:
    """Write captioned images into a store, and all of a run but its prior: random weights of the preset ``tiny``."""
    for name in ("test", "val"):
        write_file(*filesystem_for(f"{store}/{name}.parquet"), (EMOJI / f"{name}.parquet").read_bytes())
    torch.manual_seed(0)
    preset, layout = get_preset("tiny"), RunLayout(folder)
    captions = pq.read_table(EMOJI / "val.parquet", columns=["captions"])["captions"].to_pylist()
    CaptionTokenizer.train([each for some in captions for each in some], preset.tokenizer_vocabulary).save(
        layout.tokenizer
    )
    save_model(layout.dvae, DVAE(preset.dvae))
    save_model(layout.clip, CLIPReranker(CLIPConfig(image_size=32, width=16, hidden=32)))


def put_models(local: Path, run: str) -> None:
    """Copy the models of a local run, those that there are, to a run in a store."""
    for name, directory in RunLayout(local).models.items():
        if Path(directory).is_dir():
            put_directory(directory, RunLayout(run).models[name])


def chain(store: str, models: Path, name: str, sizes: Sizes) -> list[Job]:
    """Return the jobs of the run ``name`` in a store, which begins with ``models``."""
    run = f"{store}/{name}"
    put_models(models, run)
    return [encode(store, run, sizes), train(run, sizes), evaluate(store, run, sizes)]


def encode(store: str, run: str, sizes: Sizes) -> Job:
    """Return the encoding of the images; a piece is a part file."""
    part = sizes.images // sizes.pieces
    sources = [f"data.train.path={store}/test.parquet", f"data.train.limit={sizes.images}"]
    sources += [f"data.val.path={store}/val.parquet", f"data.val.limit={part}"]
    words = [f"run={run}", "image_size=32", *sources, f"rows_per_part={part}", f"batch_size={part}"]
    tokens = f"{run}/tokens/train"

    def result() -> list[dict[str, Any]]:
        files = json.loads(read_file(f"{tokens}/manifest.json"))["files"]
        rows = [row for file in files for row in pq.read_table(BytesIO(read_file(f"{tokens}/{file}"))).to_pylist()]
        return sorted(rows, key=itemgetter("id"))

    return Job("encode_images", words, lambda: len(_files(tokens, ".parquet")), result)


def train(run: str, sizes: Sizes) -> Job:
    """Return the training of the prior by two workers; a piece is the time between two checkpoints."""
    every = sizes.steps // sizes.pieces
    often = [f"train.steps={sizes.steps}", f"train.checkpoint_every={every}", f"train.validate_every={sizes.steps}"]
    workers = ["train.workers=2", "train.cpus_per_worker=1", "train.batch_size=8", "task.model.layers=2"]
    words = [f"run={run}", *often, *workers]
    directory = RunDirectory(f"{run}/prior")

    def finished() -> int:
        return max(map(step_of, directory.checkpoints.names()), default=0) // every

    def result() -> dict[str, Any]:
        metrics = directory.final_metrics(sizes.steps) or {}
        weights = json.loads(read_file(f"{run}/prior/model/manifest.json"))
        return {"weights": weights, "metrics": {name: metrics[name] for name in metrics if "seconds" not in name}}

    return Job("train_prior", words, finished, result)


def evaluate(store: str, run: str, sizes: Sizes) -> Job:
    """Return the evaluation of the prior; a piece is a shard of drawn captions."""
    sets = f"sets=[{{name: val, source: {{path: {store}/val.parquet}}}}]"
    size = [f"captions={sizes.captions}", f"shard={sizes.captions // sizes.pieces}", "candidates=2", "slots=4"]
    pools = ["generate.actors=1", "extract.actors=1", "shown=2", "training_source=null"]
    words = [f"run={run}", f"out={run}/eval", sets, *size, *pools]
    folder = f"{run}/eval/val"

    def result() -> dict[str, Any]:
        names = [name for name in _files(folder, ".json") if Path(name).stem.isdigit()]
        records = {name: json.loads(read_file(f"{folder}/{name}"))["sha256"] for name in names}
        return {"records": records, "sets": json.loads(read_file(f"{run}/eval/report.json"))["sets"]}

    return Job("coco_eval", words, lambda: len(_files(f"{folder}/candidates", ".json")), result)


def _files(uri: str, suffix: str) -> list[str]:
    """Return the files of a folder, at any depth, by their paths from there."""
    filesystem, folder = filesystem_for(uri)
    return [path.removeprefix(f"{folder}/") for path in all_files(filesystem, folder) if path.endswith(suffix)]
