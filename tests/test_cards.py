"""Every command that a document prints runs in some test, or is named here with the reason why not."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commands import ROOT, commands, is_job, make_workplace, run_job_here, smaller

pytestmark = pytest.mark.timeout(1500)
CARD = "models/trained/small/README.md"
MONITORING = "deploy/monitoring/README.md"
DOCUMENTS = ["README.md", "CONTRIBUTING.md", CARD, MONITORING, "jobs/datasets/emoji64/README.md"]
DOCUMENTS += ["jobs/datasets/icons64/README.md"]
DOCUMENTS += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
RUN_ELSEWHERE = {
    "README.md": (
        r"\S*python jobs/|\S*t2i (?:generate|redraw)",  # test_readme
        r"(?:T2I_KEY=\S+ )?\S*t2i ",  # t2i/serve/test_cli
        r"export RAY_API|ray job submit",  # t2i/test_cluster_lines
    ),
    "docs/capacity.md": (r"\S*python jobs/simulate_service.py",),  # jobs/test_simulate_service
    "docs/fine_tuning.md": (r"python jobs/|\(cd pictures|mkdir |cp ",),  # jobs/test_fine_tuning
    "docs/serving.md": (r"(?:T2I_KEY=\S+ )?\S*t2i ", r"export T2I_MODEL_STORE="),  # t2i/serve/test_cli
    CARD: (r"python jobs/|mv ",),  # here
    MONITORING: (r"cp ",),  # here
}
"""Commands that tests run, by document."""
NOT_RUN = {
    r"make ": "it is these tests or takes minutes; test_docs knows its targets, and test_readme runs t2i serve",
    r"\S*tensorboard ": "it serves until it is stopped",
    r"grpcurl ": "no package carries it; t2i/serve/test_service asks the same of the service",
    r"pip install resvg-py": "needs the network",
    r"python jobs/datasets/emoji64/build.py": "needs the network, and 20 minutes",
    r"python jobs/datasets/icons64/build.py": "needs the network; tests/jobs/datasets draw a tiny archive",
}
"""Commands that no test runs, and why not."""
SMALLER = {
    "generate": ["candidates=1", "keep=1"],
    "validate": ["source.limit=32"],
    "coco_eval": ["captions=20", "candidates=2", "training_images=20", "generate.actors=1", "extract.actors=1"],
    "train_prior": ["train.steps=2", "train.batch_size=2", "train.precision=fp32", "train.compile=false"],
}
"""Words added to, or in place of those in, a job's command in the card so that it ends within seconds."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_runs_in_a_test_or_is_excused(document: str) -> None:
    known = [*RUN_ELSEWHERE.get(document, ()), *NOT_RUN]
    assert [line for line in commands(document) if not any(re.match(start, line) for start in known)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_command_stands_outside_the_blocks_that_tests_read(document: str) -> None:
    text = re.sub(r"^```sh\n.*?^```", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    other_blocks = re.findall(r"^```(?s:.*?)^```|^    .*", text, flags=re.MULTILINE)
    command = r"^ *(?:\S*python3? \S+\.py|ray (?:job|start) |make |pip |cp |mv |\S*t2i |grpcurl ).*"
    assert re.findall(command, "\n".join(other_blocks), flags=re.MULTILINE) == []


def test_every_excuse_is_needed() -> None:
    lines = [line for document in DOCUMENTS for line in commands(document)]
    assert [start for start in NOT_RUN if not any(re.match(start, line) for line in lines)] == []


@pytest.fixture(scope="module")
def workplace(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001  the jobs join it
    """A workplace in which ``runs/small`` is the shipped run, and has image tokens of the user's own images."""
    folder = make_workplace(tmp_path_factory.mktemp("cards"))
    shutil.copytree(folder / "models/trained/small", folder / "runs/small")
    sources = ["data.train.path=pairs.parquet", "data.val.path=held_out.parquet"]
    run_job_here(folder, "jobs/encode_images.py", ["run=runs/small", "image_size=64", *sources])
    return folder


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.ray
@pytest.mark.documents
def test_the_cards_commands_run_one_after_the_other(workplace: Path) -> None:
    before = files(workplace / "models/trained/small")
    for command in commands(CARD):
        words = shlex.split(command)
        if is_job(command):
            run_job_here(workplace, words[1], smaller(words[2:], SMALLER[Path(words[1]).stem]))
        elif words[0] == "mv":
            subprocess.run(words, cwd=workplace, check=True)
    assert files(workplace / "models/trained/small") == before
    assert (workplace / "runs/card/generated/contact_sheet.png").is_file()
    (evaluated,) = json.loads((workplace / "runs/card/report.json").read_text())["sets"]
    assert {figure["subject"] for figure in evaluated["figures"]} >= {"best", "first", "reconstruction", "train"}
    assert json.loads((workplace / "runs/small/prior/metrics.json").read_text())["step"] == 2


def test_the_dashboard_is_copied_to_where_grafana_looks(tmp_path: Path) -> None:
    (command,) = commands(MONITORING)
    provisioned = tmp_path / "dashboards/t2i"
    provisioned.mkdir(parents=True)
    subprocess.run(shlex.split(command.replace("/var/lib/grafana", str(tmp_path))), cwd=ROOT, check=True)
    assert json.loads((provisioned / "training.json").read_text())["panels"]
