"""Take OpenAI's released dVAE (encoder.pkl, decoder.pkl) into a run, in place of training one.

    python jobs/import_dvae.py encoder=encoder.pkl decoder=decoder.pkl run=runs/base

Writes <run>/dvae/model. The files are read without running what they pickle: see models/dvae/released.py.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import save_model
from models.dvae.released import from_released
from models.run_layout import RunLayout
from models.settings import setting
from t2i.config import run_job


@dataclass
class ImportDVAE:
    """The two released files, and the run that gets the model."""

    encoder: str = setting("encoder.pkl", "the released encoder")
    decoder: str = setting("decoder.pkl", "the released decoder")
    run: str = setting("runs/base", "run directory: writes dvae/model")


def main(config: ImportDVAE) -> None:
    model = from_released(Path(config.encoder), Path(config.decoder))
    print(save_model(RunLayout(config.run).dvae, model))


if __name__ == "__main__":
    run_job(main, ImportDVAE, "import_dvae")
