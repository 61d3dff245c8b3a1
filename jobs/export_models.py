#!/usr/bin/env python
"""Copy only the final models of a run, and where its training images are, into a directory to be shipped and served.

    python jobs/export_models.py run=runs/small out=models/trained/small

``t2i serve``, generate.py and coco_eval.py accept ``out`` as a run directory. Weights are rounded to bfloat16 by
default.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass

from models.checkpoint import copy_model
from models.dtypes import check_dtype
from models.precision import TORCH_DTYPES
from models.run_layout import RunLayout
from models.settings import setting
from models.tokenizer import CaptionTokenizer
from t2i.config import run_job
from t2i.data.run_record import training_source, write_training_source
from t2i.storage import fetch_directory, filesystem_for, list_folder, new_directory, run_setting


@dataclass
class ExportModels:
    """Which run to copy, where to, and in which number format."""

    run: str = run_setting("runs/small")
    out: str = setting("models/trained/small", "directory for the copies, local or s3://", path="written")
    dtype: str = setting("bfloat16", "number format of the copied weights: bfloat16, or float32 for exact copies")

    def __post_init__(self) -> None:
        check_dtype(self.dtype)


def main(config: ExportModels) -> None:
    """Copy the four models and print the sizes of the files."""
    source, target = RunLayout(config.run).models, RunLayout(config.out).models
    for name, directory in source.items():
        with new_directory(target[name]) as local:
            if name == "tokenizer":
                CaptionTokenizer.load(fetch_directory(directory)).save(local)
            else:
                copy_model(fetch_directory(directory), local, TORCH_DTYPES[config.dtype])
    if images := training_source(config.run):
        write_training_source(config.out, images)
    files = {f"{at}/{file.name}": file.size for at in target.values() for file in list_folder(*filesystem_for(at))}
    for name, size in files.items():
        print(f"{size / 1e6:8.2f} MB  {name}")
    print(f"{sum(files.values()) / 1e6:8.2f} MB  {config.out}")


if __name__ == "__main__":
    run_job(main, ExportModels, "export_models")
