from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.checkpoint import load_model
from models.dvae import DVAE, DVAEConfig
from models.images import to_float
from t2i.data import SourceConfig
from t2i.data.transforms import decode_image
from validate import Validate, main

VAL = "jobs/datasets/emoji64/val.parquet"


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_metrics_are_the_models_own_on_images_of_the_runs_size_in_a_store(
    stored_run: str, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(Validate(run=stored_run, source=SourceConfig(VAL, limit=12), batch_size=8))
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == "12 images of 32 px"
    printed = {(model, metric): float(value) for model, metric, value in map(str.split, lines)}
    shown = {"dvae": ["psnr", "codes_used"], "prior": ["nats_per_image_token"], "clip": ["text_to_image_r1"]}
    assert {(model, metric) for model, metrics in shown.items() for metric in ["parameters", *metrics]} <= set(printed)

    dvae = load_model(DVAE, DVAEConfig, tiny_run / "dvae" / "model")
    data = pq.read_table(VAL).slice(0, 12)["image"].to_pylist()
    images = to_float(np.stack([decode_image(image, 32) for image in data]))
    error = (dvae.decode(dvae.encode(images)) - images).square().mean(dim=(1, 2, 3))
    assert printed["dvae", "psnr"] == pytest.approx(float(-10 * error.log10().mean()), abs=1e-3)
