from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from t2i.train.recorder import Recorder


def test_scalars_and_pictures_can_be_read_back(tmp_path):
    recorder = Recorder(tmp_path, step=0)
    recorder.scalars("train", 3, {"loss": 0.5})
    recorder.pictures(3, {"samples": torch.tensor([1.0, 0.5, 0.0])[:, None, None].expand(3, 2, 4)})
    recorder.flush()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(3, 0.5)]
    pixels = np.array(Image.open(tmp_path / "pictures/samples_0000003.png"))
    assert pixels.shape == (2, 4, 3)
    assert pixels[0, 0].tolist() == [255, 128, 0]


def test_a_resumed_recorder_hides_what_was_logged_beyond_its_step(tmp_path):
    killed = Recorder(tmp_path, step=0)
    for step in (4, 5, 6):
        killed.scalars("train", step, {"loss": float(step)})
    killed.flush()
    resumed = Recorder(tmp_path, step=4)
    resumed.scalars("train", 5, {"loss": 50.0})
    resumed.flush()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(4, 4.0), (5, 50.0)]
