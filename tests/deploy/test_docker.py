"""The images: what the Dockerfile says, what its builder is sent and told. Nothing is built here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
TARGETS = ("cpu", "cuda")
DIGEST = "@sha256:" + "0" * 64

Instruction = tuple[str, str]


def instructions(dockerfile: str) -> list[Instruction]:
    """The instructions of a Dockerfile with their words, comments and continuation lines resolved."""
    lines = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    words = [line.strip().partition(" ") for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name.upper(), " ".join(rest.split())) for name, _, rest in words]


def stages(dockerfile: str) -> dict[str, list[Instruction]]:
    """The instructions of each stage by its name, with those of the stage that it builds on; "" is before any FROM."""
    found: dict[str, list[Instruction]] = {"": []}
    name = ""
    for instruction, rest in instructions(dockerfile):
        if instruction == "FROM":
            parent, _, name = rest.partition(" AS ")
            found[name] = list(found.get(parent, []))
        found[name].append((instruction, rest))
    return found


def last(stage: list[Instruction], name: str) -> str | None:
    """The words of a stage's last instruction of this name, which is the one that counts."""
    return next((rest for instruction, rest in reversed(stage) if instruction == name), None)


def faults(dockerfile: str) -> Iterator[str]:
    """What the images must not have, beyond what hadolint knows."""
    named = stages(dockerfile)
    for instruction, rest in instructions(dockerfile):
        image = rest.partition(" AS ")[0]
        if instruction == "FROM" and image != "${BASE}" and image not in named:
            yield f"{image} is not the base, which is given by its digest"
        if ":latest" in rest:
            yield f"latest: {rest}"
        if instruction in ("ENV", "ARG") and re.search(r"\w*(TOKEN|SECRET|PASSWORD|_KEY)\w*=", rest):
            yield f"a secret would stay in the image: {rest}"
    if ("ARG", "BASE") not in named[""]:
        yield "BASE has a default, which grows old"
    for target in TARGETS:
        stage = named.get(target, [])
        if last(stage, "USER") != "1000:1000":
            yield f"{target} does not run as 1000"
        if last(stage, "HEALTHCHECK") != "NONE":
            yield f"{target} has a health check of its own"
        if last(stage, "ENTRYPOINT") != '["tini", "--"]' or not (last(stage, "CMD") or "").startswith(
            '["ray", "start"'
        ):
            yield f"{target} does not start Ray under tini"


def test_the_dockerfile_is_as_it_has_to_be() -> None:
    assert list(faults(DOCKERFILE)) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("FROM ${BASE} AS system", "FROM debian:bookworm-slim AS system", "is not the base"),
        ("ARG BASE\n", "ARG BASE=debian:bookworm-slim\n", "grows old"),
        ("FROM cpu AS cuda", "FROM cpu AS cuda\nCOPY --from=tool:latest /a /a", "latest"),
        ("ARG TORCH_INDEX=", "ARG TORCH_INDEX=\nARG S3_SECRET=abc", "a secret would stay"),
        ("USER 1000:1000\n", "", "does not run as 1000"),
        ("FROM cpu AS cuda", "FROM cpu AS cuda\nUSER root", "cuda does not run as 1000"),
        ("HEALTHCHECK NONE", "HEALTHCHECK CMD true", "health check"),
        ('ENTRYPOINT ["tini", "--"]', "", "under tini"),
    ],
)
def test_each_fault_is_found(old: str, new: str, fault: str) -> None:
    assert old in DOCKERFILE
    assert any(fault in found for found in faults(DOCKERFILE.replace(old, new)))


def hadolint(dockerfile: str) -> list[str]:
    """The codes of what hadolint has to say."""
    command = [str(Path(sys.executable).with_name("hadolint")), "--format", "json", "-"]
    done = subprocess.run(command, input=dockerfile, capture_output=True, text=True)
    return [finding["code"] for finding in json.loads(done.stdout)]


def test_hadolint_has_nothing_to_say() -> None:
    assert hadolint(DOCKERFILE) == []


def test_hadolint_says_what_is_not_excused() -> None:
    assert hadolint(DOCKERFILE.replace("# hadolint ignore=DL3008\n", "", 1)) == ["DL3008"]
    assert "DL3020" in hadolint(DOCKERFILE.replace("COPY . /app", "ADD . /app"))


def context(root: Path) -> set[str]:
    """The files of a checkout that a builder is sent."""
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    paths = exclude_paths(str(root), [p for p in patterns if p and not p.startswith("#")])
    return {path for path in paths if (root / path).is_file()} - {".dockerignore"}  # is read, and not copied


def test_the_context_is_the_code_with_its_own_data() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    wanted = {
        name for name in tracked if name.startswith(("jobs/", "models/", "platform/")) and (ROOT / name).is_file()
    }
    sent = context(ROOT)
    assert wanted | {"constraints.txt", "pyproject.toml", "LICENSE", "deploy/docker/warm.py"} <= sent
    assert {name.partition("/")[0] for name in sent} == {
        *("constraints.txt", "pyproject.toml", "LICENSE", "deploy", "jobs", "models", "platform")
    }
    assert sum((ROOT / name).stat().st_size for name in sent) < 60e6


def test_what_else_lies_in_a_checkout_is_not_sent(tmp_path: Path) -> None:
    kept = [
        "jobs/train.py",
        "jobs/datasets/emoji64/val.parquet",
        "models/trained/small/a.safetensors",
        "platform/t2i/a.py",
    ]
    left = [
        ".git/config",
        ".venv/bin/python",
        "runs/tiny/a",
        "tests/test_a.py",
        "jobs/datasets/coco/a.jpg",
        "README.md",
    ]
    left += ["models/trained/mine/a", "models/__pycache__/a.pyc", "key.pem", ".env", "deploy/docker/Dockerfile"]
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert context(tmp_path) == set(kept)


def test_every_job_is_a_command() -> None:
    jobs = [path for path in (ROOT / "jobs").glob("*.py") if not path.name.startswith("_")]
    assert all(os.access(job, os.X_OK) and job.read_text().startswith("#!/usr/bin/env python\n") for job in jobs)


def installed(requirements: list[str]) -> set[str]:
    """The names of all packages that these bring, directly or not, as this environment has them."""
    waiting, seen = [Requirement(each) for each in requirements], set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        for each in map(Requirement, distribution(requirement.name).requires or []):
            if each.marker is None or any(
                each.marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras}
            ):
                waiting.append(each)
    return {name for name, _ in seen}


def test_the_lock_names_every_package_of_the_images() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)", DOCKERFILE, flags=re.MULTILINE)
    wanted = [each for extra in extras.split(",") for each in project["optional-dependencies"][extra]]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in lines)
    locked = {canonicalize_name(line.partition("==")[0]) for line in lines}
    names = installed([*project["dependencies"], *wanted])
    assert {"torch", "boto3"} < names
    assert names - locked == set()


def build(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run build.sh with a builder that prints the words that it is given."""
    environment = {"PATH": os.environ["PATH"], "BUILDER": "echo build", "HOME": "/nowhere"} | variables
    return subprocess.run([str(FOLDER / "build.sh"), *words], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("base", ["", "debian:bookworm-slim", "debian@sha256:abc"])
def test_a_base_without_its_digest_is_refused(base: str) -> None:
    done = build("cpu", BASE=base)
    assert done.returncode == 2
    assert done.stderr.startswith(f"BASE is '{base}': name Debian 12 with its digest")


def test_it_says_what_it_builds() -> None:
    done = build("cpu", "--no-cache", BASE=f"debian{DIGEST}", TORCH_INDEX="wheels")
    assert done.returncode == 0, done.stderr
    first, command, end = done.stdout.splitlines()
    image = first.split()[1]
    assert re.fullmatch(r"t2i-platform:[0-9a-f]+(-dirty)?-cpu", image)
    assert first == f"building {image} from debian{DIGEST} with echo, torch of wheels"
    assert f"--target cpu --tag {image} " in command
    assert command.endswith(f"--build-arg BASE=debian{DIGEST} --build-arg TORCH_INDEX=wheels --no-cache .")
    assert end == f"built {image}"


def test_images_can_have_the_version_that_the_overlays_name() -> None:
    assert "--tag t2i-platform:0.1.0-cuda " in build("cuda", BASE=f"debian{DIGEST}", TAG="0.1.0").stdout


def test_torch_for_gpus_is_the_default_indexs() -> None:
    assert "torch of the default index" in build("cuda", BASE=f"debian{DIGEST}", TORCH_INDEX="wheels").stdout


def test_without_a_builder_it_says_so(tmp_path: Path) -> None:
    for name in ("bash", "env", "git", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    done = build("cpu", BASE=f"debian{DIGEST}", BUILDER="", PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (
        2,
        "No docker, podman or buildah works here: install one, or start Docker's engine.\n",
    )
