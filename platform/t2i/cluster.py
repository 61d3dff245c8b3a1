"""Start or join a Ray cluster on which every worker imports the code of this checkout."""

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
    """Which Ray cluster a job joins, or how much of this machine a local Ray may use."""

    address: str | None = setting(
        None, "address of a running cluster; empty: the one in RAY_ADDRESS, else a local Ray is started"
    )
    cpus: int | None = setting(None, "logical CPUs of a local Ray; empty: all")
    object_store_gb: float = setting(1.0, "shared memory of a local Ray, in GB")


def start_ray(config: RayConfig) -> None:
    """Join the cluster, or start one on this machine; do nothing if Ray is already initialised.

    How workers get the code: under ``ray job submit --working-dir .`` Ray has copied the checkout to every node, and
    relative source roots are enough; a driver that joins a cluster by its address uploads the checkout; a local Ray
    reads it in place.
    """
    if ray.is_initialized():
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    local = {} if address else _local_resources(config)
    environment = _runtime_env(bool(address))
    ray.init(address=address or "local", runtime_env=environment, logging_level=logging.WARNING, **local)
    context = DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.use_datasource_v2 = bool(address)  # on a local Ray it would start 32 actors to read footers
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
