"""Versions of models in the store that ``models://`` means, for tests in which they are named."""

from __future__ import annotations

from pathlib import Path

from t2i.storage.model_push import push
from t2i.storage.model_store import ModelStore, Version
from t2i.storage.paths import model_store


def keep(model: str, run: Path) -> Version:
    """Push a run as a version of a model."""
    return push(ModelStore(model_store()), model, str(run))


def promote(version: Version) -> None:
    """Let the name of a version's model mean it."""
    ModelStore(model_store()).promote(version.name, version.version)
