"""The commands ``t2i models`` that speak to the model store; those that speak to a service are in model_commands."""

from __future__ import annotations

from pathlib import Path

from t2i.storage import exact_run
from t2i.storage.model_push import push
from t2i.storage.model_store import ModelStore
from t2i.storage.paths import model_store


def print_store(address: str) -> None:
    """Print the versions of all models of a store; empty: of that which T2I_MODEL_STORE names.

    Raises:
        DataError: the store cannot be read.
    """
    store = _store(address)
    lines = [line for name in store.names() for line in _lines(store, name)]
    print("\n".join(lines) or f"{store.address} has no models: keep one by t2i models push")


def push_run(address: str, model: str, run: str) -> None:
    """Keep a run as a version of a model.

    Raises:
        CheckpointError: the run lacks a model, or one is damaged.
        DataError: the version has other content, or run or store cannot be used.
    """
    version = push(_store(address), model, exact_run(run))
    print(f"{version} is in the store")


def pull_version(address: str, model: str, folder: Path) -> None:
    """Copy a version into a local folder.

    Raises:
        CheckpointError: a file is damaged.
        DataError: there is no such version, the folder holds something else, or one of them cannot be used.
    """
    version = _store(address).pull(model, folder)
    print(f"{version} is in {folder}")


def promote_version(address: str, name: str, version: str) -> None:
    """Let the name of a model mean one of its versions.

    Raises:
        DataError: there is no such version, or the store cannot be used.
    """
    print(f"{name} is {_store(address).promote(name, version)}")


def _store(address: str) -> ModelStore:
    return ModelStore(address or model_store())


def _lines(store: ModelStore, name: str) -> list[str]:
    promoted = store.promoted(name)
    versions = [store.find(f"{name}/{version}") for version in store.versions(name)]
    return [f"{version}{', promoted' if version.version == promoted else ''}" for version in versions]
