#!/usr/bin/env python
"""Copy only the final models of a run, and where its training images are, into a directory to be shipped and served.

    python jobs/export_models.py run=runs/small out=models/trained/small

``t2i serve``, generate.py and coco_eval.py accept ``out`` as a run directory. Weights are rounded to bfloat16 by
default.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import copy_model
from models.dtypes import check_dtype
from models.precision import TORCH_DTYPES
from models.run_layout import RunLayout
from models.settings import setting
from models.tokenizer import CaptionTokenizer
from t2i.config import run_job
from t2i.data.run_record import training_source, write_training_source
from t2i.storage import fetch_directory, run_setting


@dataclass
class ExportModels:
    """Which run to copy, where to, and in which number format."""

    run: str = run_setting("runs/small")
    out: str = setting("models/trained/small", "local directory for the copies", path="written")
    dtype: str = setting("bfloat16", "number format of the copied weights: bfloat16, or float32 for exact copies")

    def __post_init__(self) -> None:
        check_dtype(self.dtype)


def main(config: ExportModels) -> None:
    """Copy the four models and print the sizes of the files."""
    out = Path(config.out)
    source, target = RunLayout(config.run).models, RunLayout(out).models
    CaptionTokenizer.load(fetch_directory(source.pop("tokenizer"))).save(target["tokenizer"])
    for name, directory in source.items():
        copy_model(fetch_directory(directory), Path(target[name]), TORCH_DTYPES[config.dtype])
    if images := training_source(config.run):
        write_training_source(str(out), images)
    sizes = {str(file.relative_to(out)): file.stat().st_size for file in sorted(out.rglob("*")) if file.is_file()}
    for name, size in sizes.items():
        print(f"{size / 1e6:8.2f} MB  {name}")
    print(f"{sum(sizes.values()) / 1e6:8.2f} MB  {out}")


if __name__ == "__main__":
    run_job(main, ExportModels, "export_models")
