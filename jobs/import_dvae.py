#!/usr/bin/env python
"""Import OpenAI's released dVAE (encoder.pkl, decoder.pkl) into a run, instead of training one.

    python jobs/import_dvae.py encoder=encoder.pkl decoder=decoder.pkl run=runs/base

Writes <run>/dvae/model. The pickle files are read without executing code from them: see models/dvae/released.py.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass

from models.checkpoint import save_model
from models.dvae.released import from_released
from models.run_layout import RunLayout
from models.settings import setting
from t2i.config import run_job
from t2i.storage import fetch_file, new_directory


@dataclass
class ImportDVAE:
    """The two released files, and the run directory to import them into."""

    encoder: str = setting("encoder.pkl", "path of the released encoder", path="read")
    decoder: str = setting("decoder.pkl", "path of the released decoder", path="read")
    run: str = setting("runs/base", "run directory: writes dvae/model", path="written")


def main(config: ImportDVAE) -> None:
    """Convert the released files to a model directory and print its path."""
    model = from_released(fetch_file(config.encoder), fetch_file(config.decoder))
    directory = RunLayout(config.run).dvae
    with new_directory(directory) as local:
        save_model(local, model)
    print(directory)


if __name__ == "__main__":
    run_job(main, ImportDVAE, "import_dvae")
