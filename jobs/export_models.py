"""Copy a run's final models, and nothing else of it, into a directory that can be shipped and served.

    python jobs/export_models.py run=runs/small out=models/trained/small

``out`` is a run directory like any other to serve, generate.py and coco_eval.py. Weights are rounded to bfloat16.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import copy_model
from models.precision import DTYPES, check_dtype
from models.run_layout import RunLayout
from models.settings import setting
from models.tokenizer import CaptionTokenizer
from t2i.config import run_job
from t2i.storage import fetch_directory


@dataclass
class ExportModels:
    """Which run, where to, in which format."""

    preset: str = setting("small", "names the default run directory")
    run: str = setting("runs/${preset}", "run directory with tokenizer, dvae, prior and clip, finished")
    out: str = setting("models/trained/${preset}", "local directory for the copies")
    dtype: str = setting("bfloat16", "number format of the copied weights: bfloat16, or float32 to keep them exact")

    def __post_init__(self) -> None:
        check_dtype(self.dtype)


def main(config: ExportModels) -> None:
    out = Path(config.out)
    source, target = RunLayout(config.run).models, RunLayout(out).models
    CaptionTokenizer.load(fetch_directory(source.pop("tokenizer"))).save(target["tokenizer"])
    for name, directory in source.items():
        copy_model(fetch_directory(directory), Path(target[name]), DTYPES[config.dtype])
    sizes = {str(file.relative_to(out)): file.stat().st_size for file in sorted(out.rglob("*")) if file.is_file()}
    for name, size in sizes.items():
        print(f"{size / 1e6:8.2f} MB  {name}")
    print(f"{sum(sizes.values()) / 1e6:8.2f} MB  {out}")


if __name__ == "__main__":
    run_job(main, ExportModels, "export_models")
