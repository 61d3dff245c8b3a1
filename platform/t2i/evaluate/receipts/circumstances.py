"""What figures were computed by: this code's version, the installed packages, the machines."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import distributions
from typing import Any

import ray
import torch

from models.processor import cpu_name
from t2i.config import ROOT
from t2i.evaluate.tasks import one_thread

PACKAGE = "t2i-platform"


def code_version() -> dict[str, Any]:
    """Return the git ``commit`` of this code, and whether the tree is ``dirty``; both None without a git checkout."""
    if _git("rev-parse", "--show-toplevel") != str(ROOT):
        return {"commit": None, "dirty": None}
    return {"commit": _git("rev-parse", "HEAD"), "dirty": _git("status", "--porcelain") != ""}


def _git(*words: str) -> str | None:
    """Return what git says of the folder of this code; None if there is no git, or it knows nothing of the folder."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def installed_packages() -> list[str]:
    """Return every installed distribution as ``name==version``, sorted, each once."""
    return sorted({f"{found.metadata['Name']}=={found.version}" for found in distributions()}, key=str.lower)


def hardware() -> dict[str, Any]:
    """Return what figures are computed on, and how many CPUs and GPUs each node of the Ray cluster has."""
    described: dict[str, Any] = ray.get(_machine.remote())
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    sizes = sorted((int(each.get("CPU", 0)), int(each.get("GPU", 0))) for each in nodes)
    return described | {"nodes": [{"cpus": cpus, "gpus": gpus} for cpus, gpus in sizes]}


@one_thread
def _machine() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads_per_figure": torch.get_num_threads(),
        "gpus": gpus,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
