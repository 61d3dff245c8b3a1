from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from t2i.train.monitor.tensorboard import TensorBoardTracker


def test_scalars_and_pictures_can_be_read_back(tmp_path: Path) -> None:
    recorder = TensorBoardTracker(tmp_path, step=0)
    recorder.log(3, {"train/loss": 0.5})
    recorder.pictures(3, {"samples": torch.tensor([1.0, 0.5, 0.0])[:, None, None].expand(3, 2, 4)})
    recorder.flush()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(3, 0.5)]
    pixels = np.array(Image.open(tmp_path / "pictures/samples_0000003.png"))
    assert pixels.shape == (2, 4, 3)
    assert pixels[0, 0].tolist() == [255, 128, 0]


def test_a_resumed_recorder_hides_what_was_logged_beyond_its_step(tmp_path: Path) -> None:
    killed = TensorBoardTracker(tmp_path, step=0)
    for step in (4, 5, 6):
        killed.log(step, {"train/loss": float(step)})
    killed.flush()
    resumed = TensorBoardTracker(tmp_path, step=4)
    resumed.log(5, {"train/loss": 50.0})
    resumed.flush()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(4, 4.0), (5, 50.0)]


def test_scales_are_a_series_for_each_block_and_a_histogram_of_all(tmp_path: Path) -> None:
    recorder = TensorBoardTracker(tmp_path, step=0)
    recorder.scales(3, {})
    recorder.scales(5, {"scale/block_00_mlp": 128.0, "scale/block_01_mlp": 8192.0})
    recorder.finish()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("scale/block_01_mlp")] == [(5, 8192.0)]
    (histogram,) = events.Histograms("scale_log2")
    assert (histogram.histogram_value.min, histogram.histogram_value.max) == (7.0, 13.0)
