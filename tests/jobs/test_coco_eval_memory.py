"""An evaluation's driver needs no more memory for many captions than for few."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image

from models.reranker import CLIPConfig
from t2i.data.pairs import pairs_table
from tests.conftest import StartProcess
from tests.images import encode
from tests.random_run import write_random_run
from tests.soak import scaled

FEW, MANY = 600, max(1_200, scaled(20_000))
NETWORK = "test_efficientnet.r160_in1k"
"""One of timm's smallest, so that most of the time goes into what an evaluation does besides."""

PEAK = """
import re, runpy, sys
sys.argv.pop(0)
sys.path.insert(0, "jobs")
runpy.run_path(sys.argv[0], run_name="__main__")
print(re.search("VmHWM:.*", open("/proc/self/status").read())[0])
"""


def write_pairs(path: Path, images: int) -> None:
    """Write so many different 32 px images, each with a caption of its own."""
    corners = np.random.default_rng(0).integers(0, 256, (images, 2, 2, 3), np.uint8)
    encoded: list[bytes | None] = [encode(Image.fromarray(each).resize((32, 32))) for each in corners]
    captions = [[f"picture {index} of a circle"] for index in range(images)]
    pq.write_table(pairs_table([f"{index:06d}" for index in range(images)], encoded, captions), path)


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(6000)
def test_the_drivers_peak_does_not_grow_with_the_captions(tmp_path: Path, start_process: StartProcess) -> None:
    clip = CLIPConfig(image_size=32, width=16, hidden=32)
    run = write_random_run(tmp_path / "run", ["a red circle", "picture 0123456789"] * 9, text_length=16, clip=clip)
    torch.save(timm.create_model(NETWORK, pretrained=False).state_dict(), tmp_path / "network.pth")
    write_pairs(tmp_path / "pairs.parquet", MANY)

    def peak(captions: int) -> int:
        """Return the driver's largest resident set in kB."""
        out = tmp_path / str(captions)
        sets = f"sets=[{{name: pairs, source: {{path: {tmp_path}/pairs.parquet}}}}]"
        extractor = [f"extractor.name=timm/{NETWORK}", f"extractor.weights={tmp_path}/network.pth", "extractor.side=32"]
        sizes = [f"captions={captions}", "candidates=1", "shard=100", "training_source=null", "ray.cpus=2"]
        words = ["jobs/coco_eval.py", f"run={run}", f"out={out}", sets, *extractor, *sizes]
        job = start_process([sys.executable, "-c", PEAK, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = job.communicate(timeout=5000)
        assert job.returncode == 0, output[-4000:]
        return int(re.findall(r"VmHWM:\s+(\d+) kB", output)[-1])

    few, many = peak(FEW), peak(MANY)
    print(f"peak of the driver: {few} kB for {FEW} captions, {many} kB for {MANY}")
    assert many < 1.1 * few
