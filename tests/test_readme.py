"""The README's commands, run in its order on a handful of images: what a newcomer types has to work."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.processes import running

pytestmark = pytest.mark.timeout(1500)
ROOT = Path(__file__).resolve().parent.parent
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
"""Words added to a job's README command so that it ends within seconds."""


def commands() -> list[str]:
    """Every command in the README's ``sh`` blocks, comments and continuation lines resolved."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [stripped for line in lines if (stripped := line.split("  #")[0].strip())]


def job_commands() -> list[list[str]]:
    """The words of ``python jobs/X.py ...`` commands, those on own data first: they make what the others use."""
    found = [shlex.split(command) for command in commands() if "/python jobs/" in command]
    return sorted((words for words in found if "--help" not in words), key=lambda words: "run=runs/mine" not in words)


def run(words: list[str]) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two files the README calls the user's own, and room for the run."""
    folder = tmp_path_factory.mktemp("readme")
    rows = pq.read_table(ROOT / "jobs/datasets/emoji64/test.parquet")
    pq.write_table(rows.slice(0, 48), folder / "pairs.parquet")
    pq.write_table(rows.slice(48, 24), folder / "held_out.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(ray_cluster: None, own_data: Path) -> Path:  # noqa: ARG001  the jobs join it
    """The run directory after all job commands of the README, as scripts inside this process: they share its Ray."""
    for _, script, *arguments in job_commands():
        here = [re.sub(r"(pairs|held_out)\.parquet", rf"{own_data}/\1.parquet", word) for word in arguments]
        here = [word.replace("runs/mine", f"{own_data}/run") for word in here if not word.startswith("run=")]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            run_directory = [] if Path(script).stem == "prepare_pairs" else [f"run={own_data}/run"]
            is_command = "=" not in arguments[0]  # coco_eval.py verify
            added = [] if is_command else [*run_directory, *SMALLER[Path(script).stem]]
            patch.setattr(sys, "argv", [script, *here, *added])
            runpy.run_path(script, run_name="__main__")
    return own_data / "run"


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
    used = {shlex.split(command)[1] for command in commands() if command.startswith("make ")}
    assert used
    assert used <= targets


def test_every_job_with_help_lists_its_fields() -> None:
    helps = [shlex.split(command) for command in commands() if "--help" in command]
    assert helps
    for words in helps:
        assert "preset=tiny" in run([sys.executable, *words[1:]])


@pytest.mark.ray
@pytest.mark.slow
def test_the_jobs_make_a_whole_run(trained: Path) -> None:
    for made in ("tokenizer", "dvae/model", "tokens/train", "prior/model", "clip/model"):
        assert (trained / made / "manifest.json").is_file()
    assert (trained / "eval" / "report.html").is_file()
    assert (trained / "curated" / "pairs" / "manifest.json").is_file()
    assert list((trained / "generated").glob("*.png"))


@pytest.mark.ray
@pytest.mark.slow
def test_the_client_command_writes_the_images_it_was_asked_for(service: str, tmp_path: Path) -> None:
    command = next(shlex.split(command) for command in commands() if "t2i generate" in command)
    asked = [word if word != "pictures/" else str(tmp_path) for word in command[1:]]
    run([str(BIN / "t2i"), *asked, "--server", service])
    assert len(list(tmp_path.glob("*.png"))) == int(command[command.index("-k") + 1])
