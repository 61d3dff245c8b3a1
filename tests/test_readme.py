"""The README's commands, run in its order on a handful of images: what a newcomer types has to work."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.commands import ROOT, commands, is_job, make_workplace, run_job_here, smaller
from tests.conftest import StartProcess
from tests.processes import running
from tests.random_inception import write_random_inception

pytestmark = pytest.mark.timeout(1500)
BIN = Path(sys.executable).parent
SMALLER = {
    "prepare_pairs": [],
    "train_tokenizer": [],
    "train_dvae": ["train.steps=3"],
    "encode_images": [],
    "train_prior": ["train.steps=3"],
    "train_clip": ["train.steps=3", "train.batch_size=16"],
    "coco_eval": ["captions=20", "candidates=2", "generate.actors=1", "extract.actors=1"],
    "generate": [],
}
"""Words added to a job's README command, or in place of its own, so that it ends within seconds."""


ALSO = {
    "protocol=dalle": ["captions=64", "candidates=1", "blur_radii=[0]", "training_source=null"],  # batches of 64 images
    "watch=runs/mine": ["sets=[{name: held_out, source: {path: held_out.parquet}}]"],
}
"""Words added to a command that has this word."""


def job_commands() -> list[list[str]]:
    """The words of ``python jobs/X.py ...`` commands, those on own data first: they make what the others use."""
    found = [shlex.split(command)[1:] for command in commands("README.md") if is_job(command)]
    return sorted((words for words in found if "--help" not in words), key=lambda words: "run=runs/mine" not in words)


def the_command(word: str) -> tuple[str, list[str]]:
    """The script and the arguments, as they are typed here, of the command that has this word."""
    ((script, *arguments),) = [words for words in job_commands() if word in words]
    return script, typed(script, arguments)


def typed(script: str, arguments: list[str]) -> list[str]:
    """A README command's arguments, changed so that it ends within seconds and finds the run."""
    if "=" not in arguments[0]:
        return arguments  # coco_eval.py verify
    job = Path(script).stem
    if job != "prepare_pairs" and not any(word.startswith(("run=", "watch=")) for word in arguments):
        arguments = [*arguments, "run=runs/mine"]
    arguments = smaller(arguments, SMALLER[job])
    return smaller(arguments, [word for key, words in ALSO.items() if key in arguments for word in words])


def run(words: list[str]) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workplace(tmp_path_factory.mktemp("readme"))


@pytest.fixture(scope="module")
def trained(ray_cluster: None, workplace: Path) -> Path:  # noqa: ARG001  the jobs join it
    """The run directory after all job commands of the README but those that have tests of their own."""
    for script, *arguments in job_commands():
        if not ALSO.keys() & set(arguments):
            run_job_here(workplace, script, typed(script, arguments))
    return workplace / "runs/mine"


@pytest.fixture(scope="module")
def service(trained: Path) -> Iterator[str]:
    """``make serve`` on any free port; the address it prints."""
    words = [str(BIN / "t2i"), "serve", "--run", str(trained), "--port", "0"]
    with running(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("serving"))
        yield line.split()[-1]
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    used = {shlex.split(command)[1] for command in commands("README.md") if command.startswith("make ")}
    assert used
    assert used <= targets


def test_every_job_with_help_lists_its_fields() -> None:
    helps = [shlex.split(command) for command in commands("README.md") if "--help" in command]
    assert helps
    for words in helps:
        assert "preset=tiny" in run([sys.executable, *words[1:]])


@pytest.mark.ray
@pytest.mark.documents
def test_the_jobs_make_a_whole_run(trained: Path) -> None:
    for made in ("tokenizer", "dvae/model", "tokens/train", "prior/model", "clip/model"):
        assert (trained / made / "manifest.json").is_file()
    assert (trained / "eval" / "report.html").is_file()
    assert (trained / "curated" / "pairs" / "manifest.json").is_file()
    assert list((trained / "generated").glob("*.png"))


@pytest.mark.ray
@pytest.mark.documents
def test_an_id_list_is_evaluated_with_coco_s_images(trained: Path) -> None:
    (ids,) = json.loads((trained / "eval/report.json").read_text())["sets"]  # that of the last command
    assert ids["name"] == "ids"
    assert {"fd_efficientnet_lite0", "clip_score"} <= {figure["metric"] for figure in ids["figures"]}


@pytest.mark.ray
@pytest.mark.documents
def test_coco_is_evaluated_by_a_protocol_with_an_inception(trained: Path, workplace: Path) -> None:
    write_random_inception(workplace / "inception_v3_google-0cc3c7bd.pth", classes=1000)
    run_job_here(workplace, *the_command("protocol=dalle"))
    (coco,) = json.loads((trained / "eval/report.json").read_text())["sets"]
    assert coco["name"] == "coco2014-val"
    assert {"fd_inception_v3_imagenet", "clip_score"} <= {figure["metric"] for figure in coco["figures"]}


@pytest.mark.ray
@pytest.mark.documents
def test_the_watching_command_measures_each_checkpoint_of_a_training_that_goes_on(
    trained: Path, workplace: Path, start_process: StartProcess, tmp_path: Path
) -> None:
    """Training is a process of its own, with a Ray of its own, and has not begun when the watcher does."""
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    shutil.copy(workplace / "held_out.parquet", tmp_path)
    shutil.copytree(trained, run := tmp_path / "runs/mine", ignore=shutil.ignore_patterns("prior", "eval", "curated"))
    steps, every = 40, 20
    lengths = [f"train.steps={steps}", f"train.checkpoint_every={every}", f"train.keep_checkpoints={steps // every}"]
    words = [sys.executable, "jobs/train_prior.py", "run=runs/mine", *lengths, "train.log_every=1", "ray.cpus=1"]
    training = start_process(words, cwd=tmp_path)
    run_job_here(tmp_path, *the_command("watch=runs/mine"))
    assert training.wait(timeout=300) == 0
    logs = run / "prior/logs"
    assert [event.step for event in curve(logs, "train/loss")] == list(range(1, steps + 1))  # none twice
    points = curve(logs / "eval", "eval/held_out/clip_score/best")
    assert [event.step for event in points] == list(range(every, steps + 1, every))


def curve(folder: Path, name: str) -> list[Any]:
    """The points of a TensorBoard curve."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return list(events.Scalars(name))


@pytest.mark.ray
@pytest.mark.documents
def test_the_client_command_writes_images_that_can_be_drawn_again(service: str, trained: Path, tmp_path: Path) -> None:
    command = next(shlex.split(command) for command in commands("README.md") if "t2i generate" in command)
    asked = [word if word != "pictures/" else str(tmp_path) for word in command[1:]]
    run([str(BIN / "t2i"), *asked, "--server", service])
    assert len(list(tmp_path.glob("*.png"))) == int(command[command.index("-k") + 1])
    picture, where = str(tmp_path / "7-000.png"), (["--server", service], ["--run", str(trained)])
    assert [run([str(BIN / "t2i"), "redraw", picture, *words]) for words in where] == ["identical\n"] * 2
