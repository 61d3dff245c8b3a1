"""The settings of a prior's replica, with nothing left open."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import ray

from models.checkpoint import load_model
from models.dtypes import DTYPES
from models.manifest import manifest_hashes, weights_hash
from models.prior import Prior, PriorConfig
from models.run_layout import RunLayout
from models.settings import AUTO
from t2i.logs import get_logger
from t2i.serve.auto.agreement import agreed
from t2i.serve.auto.choice import EngineSettings, choose, table
from t2i.serve.auto.measure import measure
from t2i.serve.config import PriorReplicaConfig, ServeConfig

SLOTS = {"cpu": (4, 8, 16, 32, 64), "cuda": (16, 32, 64, 128, 256, 512)}
"""Slots that are tried on a device. On a CPU a step of more takes longer nearly in proportion, and a request of 64
candidates, which is a large one, would fill only a part."""

logger = get_logger("serve.auto")


def settled(config: ServeConfig) -> ServeConfig:
    """Return the configuration with dtype, slots and threads of the prior, measured where they are left to be.

    int8 is not among the dtypes that are tried: its weights are others than were trained, which is for people to want.
    Steps are measured as they are, uncompiled: to compile each of the settings would take minutes.
    """
    if not config.prior.is_measured:
        return config
    settings = agreed(_key(config), partial(_measured, config))
    return replace(config, prior=replace(config.prior, **asdict(settings)))


def _measured(config: ServeConfig) -> EngineSettings:
    prior = config.prior
    timings = measure(
        partial(load_model, Prior, PriorConfig, RunLayout(config.run).prior, prior.device),
        DTYPES if prior.dtype == AUTO else [prior.dtype],
        [prior.slots] if prior.slots else SLOTS[prior.device],
        [prior.threads] if prior.threads else _threads(prior),
        prior.captions,
    )
    chosen = choose(timings)
    logger.info("a step of the prior, measured:\n%s", table(timings, chosen))
    return chosen


def _threads(prior: PriorReplicaConfig) -> list[int]:
    """Return the numbers of threads to try: one, and a replica's share of this node, where all of them may be.

    One CPU is left to decoder and reranker: where threads of a step wait for one that has no CPU, all are slow.
    """
    share = max(1, (_cpus() - 1) // prior.max_replicas)
    return sorted({1, share}) if prior.device == "cpu" else [1]


def _cpus() -> int:
    """Return the CPUs of this node as Ray counts them, which knows containers' limits; without Ray, this process's."""
    if not ray.is_initialized():
        return len(os.sched_getaffinity(0))
    here = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
    return next(int(node["Resources"].get("CPU", 1)) for node in nodes if node["NodeID"] == here)


def _key(config: ServeConfig) -> str:
    """Return a hash of what the choice is for: the weights, and the settings that people made."""
    weights = weights_hash(manifest_hashes(Path(RunLayout(config.run).prior)))
    text = json.dumps([weights, asdict(config.prior)])
    return hashlib.sha256(text.encode()).hexdigest()
