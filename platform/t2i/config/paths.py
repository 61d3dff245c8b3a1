"""Make the paths of a configuration absolute, once and in the driver: so they mean the same in every process.

A worker has another working directory, and a replica may be on another machine; neither may read a relative path.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.errors import UserError
from t2i.config.errors import ConfigError
from t2i.config.leaves import Leaf, leaves

ROOT = Path(__file__).resolve().parents[3]
"""The folder of this code: a checkout, the working directory of a submitted job, or a copy of either in an image."""

TEMPORARY = "/runtime_resources/working_dir_files/"
"""Part of every path in the copy of a working directory that Ray makes for a submitted job, and later deletes."""


MODEL_STORE = "models://"
"""What addresses in the model store begin with; :mod:`t2i.storage.model_store` says what they mean."""


def absolute(path: str) -> str:
    """Return a path absolute, its ``~`` replaced by the home directory; URIs such as ``s3://`` as they are.

    What comes with the code (``jobs/datasets/emoji64``, ``models/trained/small``) is found from any working directory,
    unless that has a folder of the same name.
    """
    if "://" in path:
        return path
    typed = path if os.path.lexists(path) else os.path.expanduser(path)
    folder = "/".join(Path(typed).parts[:3])
    shipped = folder.startswith(("jobs/datasets/", "models/trained/"))
    if shipped and not os.path.exists(folder) and (ROOT / folder).exists():
        return str(ROOT / typed)
    return os.path.abspath(typed)


def resolve_path(leaf: Leaf) -> None:
    """Make the path of a leaf absolute, or what it stands for, and check that it can be written if the job does so.

    Raises:
        ConfigError: it is too long for the file system, stands for nothing, cannot be written, or would be deleted with
            the job.
    """
    if not leaf.value:
        return
    leaf.replace(absolute(leaf.value))
    if resolve := leaf.field.metadata.get("resolve"):
        try:
            leaf.replace(resolve(leaf.value))
        except UserError as error:
            raise ConfigError(f"{leaf.key}: {error}") from error
    if "://" not in leaf.value:
        _check_name(leaf.key, leaf.value)
    if leaf.field.metadata["path"] != "read":
        _check_writable(leaf.key, leaf.value, is_file=leaf.field.metadata["path"] == "file")


def _check_name(key: str, path: str) -> None:
    """Raise ConfigError for a path that the file system cannot even look up; what is not there is no error here."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{key} is {path!r}, which the file system refuses ({reason}): give another.") from error


def _check_writable(key: str, path: str, is_file: bool) -> None:
    if path.startswith(MODEL_STORE):
        raise ConfigError(f"{key} is {path}, in the model store, where nothing changes: name another {key}=.")
    if "://" in path:
        return
    if TEMPORARY in path:
        raise ConfigError(f"{key} is {path}, which Ray deletes after the job: give an absolute path or s3://.")
    if is_file and os.path.isdir(path):
        raise ConfigError(f"{key} is {path}, a directory: name a file.")
    folders = Path(path).parents if is_file else (Path(path), *Path(path).parents)
    existing = next(folder for folder in folders if os.path.exists(folder))
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise ConfigError(f"{key} is {path}, and {existing} is no directory that can be written: name another.")


def recorded(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain values to be kept with a result, by which a later start knows it again.

    Paths within the code's folder are relative to it: the same data in a checkout that was moved, or in the copy of it
    that Ray makes for each submitted job, is the same.
    """
    values = asdict(config)
    for leaf in leaves(type(config), values):
        if leaf.field.metadata.get("path") and leaf.value:
            leaf.replace(leaf.value.removeprefix(f"{ROOT}/"))
    return values


def is_same(saved: Any, wanted: Any) -> bool:
    """Return whether nested values that were recorded are equal to ``wanted`` ones, or paths of the same data.

    ::

        saved               wanted                 the same, because
        data/train          /home/a/data/train     one is the end of the other: a path within the code's folder, say
        /home/a/data/train  /home/b/data/train     if there is no /home/a/data/train any more: it was moved
    """
    if isinstance(saved, Mapping) and isinstance(wanted, Mapping):
        return saved.keys() == wanted.keys() and all(is_same(saved[key], wanted[key]) for key in saved)
    if not (isinstance(saved, str) and isinstance(wanted, str)) or saved == wanted:
        return bool(saved == wanted)
    here = os.path.join(ROOT, wanted)
    if not saved.startswith("/"):
        return here.endswith(f"/{saved.removeprefix('./')}")
    gone = not os.path.exists(saved) and not glob.glob(saved, recursive=True)
    return saved == here or (gone and os.path.basename(saved) == os.path.basename(wanted))
