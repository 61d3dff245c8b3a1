"""What all replicas of a model compute with: the first choice, recorded in the cluster's store of keys and values."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_initialized, _internal_kv_put

from t2i.serve.auto.choice import EngineSettings

NAMESPACE = "t2i.engine_settings"


def agreed(key: str, measured: Callable[[], EngineSettings]) -> EngineSettings:
    """Return what was recorded first under ``key``; if nothing was, ``measured`` is called and recorded.

    Where several measure at the same time one of them is first. Without Ray there is nobody to agree with. The store is
    that of Ray's head, which lives as long as the cluster.
    """
    if not _internal_kv_initialized():  # type: ignore[no-untyped-call]  # Ray's
        return measured()
    if not _internal_kv_get(key, namespace=NAMESPACE):
        _internal_kv_put(key, json.dumps(asdict(measured())), overwrite=False, namespace=NAMESPACE)
    return EngineSettings(**json.loads(_internal_kv_get(key, namespace=NAMESPACE)))
