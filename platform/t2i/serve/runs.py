"""The runs that a service has: checked before anything starts, and fetched by the replicas that need them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from models.errors import UserError
from models.manifest import CheckpointError, complete_manifests
from models.run_layout import RunLayout
from t2i.serve.config import ModelConfig, ServeConfig
from t2i.storage import fetch_run, filesystem_for, list_folder, read_path
from t2i.storage.errors import as_data_error


def check_run(run: str) -> None:
    """Check that a run, a directory or one in a store, has every model, before anything is started.

    Raises:
        UserError: a model is missing, and which; or the store cannot be read.
    """
    version_of(run)


def version_of(run: str) -> str:
    """Return 8 hex digits of what a run holds, from its manifests: the same for every copy of it.

    Raises:
        UserError: a model is missing, and which; or the store cannot be read.
    """
    manifests = [_manifests(run, name, directory) for name, directory in RunLayout(run).models.items()]
    return hashlib.sha256(b"".join(manifests)).hexdigest()[:8]


def fetched(config: ServeConfig) -> ServeConfig:
    """Return settings whose run is local: the same, or copies of its models, fetched once a node and hash-checked.

    Raises:
        UserError: it cannot be fetched, or is no longer what it was when a :class:`ModelConfig` was deployed.
    """
    run = fetch_run(config.run)
    if isinstance(config, ModelConfig) and config.version != version_of(run):
        raise UserError(f"{config.run} has changed since it was deployed: add it again, or deploy the service again.")
    return replace(config, run=run)


def _manifests(run: str, name: str, directory: str) -> bytes:
    """Return the content of a model's manifests."""
    filesystem, path = filesystem_for(directory)
    with as_data_error(directory):
        names = [entry.name for entry in list_folder(filesystem, path) if entry.is_file]
        try:
            found = complete_manifests(names, directory)
        except CheckpointError as error:
            raise UserError(f"{run} has no {name}: train it, or name another run.") from error
        return b"".join(read_path(filesystem, f"{path}/{each}") for each in sorted(found))
