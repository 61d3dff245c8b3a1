"""Start or join Ray so that every worker imports this checkout's code."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.data import DataContext

from models.settings import setting

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class RayConfig:
    """Where the job runs, and how much of the machine a local Ray may take."""

    address: str | None = setting(None, "a running cluster; empty joins the one in RAY_ADDRESS or starts Ray here")
    cpus: int | None = setting(None, "logical CPUs of a Ray started here; empty takes all")
    object_store_gb: float = setting(1.0, "shared memory of a Ray started here, in GB")


def start_ray(config: RayConfig) -> None:
    """Join the cluster, or start one on this machine; does nothing where Ray is already connected.

    Inside ``ray job submit --working-dir .`` the working directory is already on every node and relative source roots
    are enough. A driver that joins a cluster on its own uploads the checkout; a local Ray reads it in place.
    """
    if ray.is_initialized():
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    local = {} if address else _local_resources(config)
    environment = _runtime_env(bool(address))
    ray.init(address=address or "local", runtime_env=environment, logging_level=logging.WARNING, **local)
    context = DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.use_datasource_v2 = bool(address)  # it starts 32 actors to read the footers of every Parquet set
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _local_resources(config: RayConfig) -> dict[str, Any]:
    return {
        "num_cpus": config.cpus,
        "object_store_memory": int(config.object_store_gb * 1e9),
        "include_dashboard": False,
    }


def _runtime_env(remote: bool) -> dict[str, Any]:
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if remote and submitted:
        return {"env_vars": {"PYTHONPATH": "platform:."}}
    if remote:
        excludes = ["/.venv*/", "/runs/", "/.git/", "/dist/"]
        return {"working_dir": str(ROOT), "excludes": excludes, "env_vars": {"PYTHONPATH": "platform:."}}
    return {"env_vars": {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}}
