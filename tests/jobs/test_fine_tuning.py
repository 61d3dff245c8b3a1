"""The commands of docs/fine_tuning.md, run in its order with little to do."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import commands, is_job, make_workplace, run_job_here, smaller

SMALLER = {
    "encode_images": ["views=2", "data.train.limit=6", "data.val.limit=4"],
    "train_prior": ["train.steps=2", "train.batch_size=2", "train.precision=fp32"],
    "generate": ["candidates=2"],
}
"""Words in place of those in a job's command, so that it ends within seconds."""


@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_the_guide_s_commands_teach_the_shipped_prior_new_pictures(tmp_path: Path) -> None:
    folder = make_workplace(tmp_path)
    for command in commands("docs/fine_tuning.md"):
        words = shlex.split(command)
        if is_job(command):
            run_job_here(folder, words[1], smaller(words[2:], SMALLER[Path(words[1]).stem]))
        elif words[0] != "make":  # it serves until it is stopped
            subprocess.run(command.replace("python ", f"{sys.executable} "), shell=True, cwd=folder, check=True)
    assert len(list((folder / "pictures/train").glob("*.png"))) == 200
    run, shipped = folder / "runs/mine", folder / "models/trained/small"
    assert json.loads((run / "prior/metrics.json").read_text())["step"] == 2
    for kept in ("tokenizer/tokenizer.json", "dvae/model/weights.safetensors", "clip/model/weights.safetensors"):
        assert (run / kept).read_bytes() == (shipped / kept).read_bytes()
    assert len(list((run / "generated").glob("*.png"))) == 5
