"""The model store: runs that are kept as versions of a model, in a folder or in a store such as S3.

::

    STORE/small/1/                  a run: tokenizer/, dvae/model/, prior/model/, clip/model/, README.md
    STORE/small/1/manifest.json     the hashes of all its files, written last: without it there is no version 1
    STORE/small/1/_push.json        the same, written first and once: what whoever pushes a version 1 has to bring
    STORE/small/2/...
    STORE/small/_promoted.json      which version the name alone means

``models://small/2`` is that version of the store that ``T2I_MODEL_STORE`` names, and ``models://small`` the one that
is promoted. A version never changes, so it is read like any run, and fetched once a node. :mod:`t2i.storage.model_push`
makes versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.manifest import MANIFEST, SHORT, is_manifest, manifest_hashes, read_manifest, verify, weights_hash
from models.run_layout import RunLayout
from models.settings import setting
from t2i.config import MODEL_STORE
from t2i.logs import get_logger
from t2i.storage.directories import copy_directory
from t2i.storage.errors import DataError, as_data_error
from t2i.storage.files import file_info, list_folder, read_path, write_file
from t2i.storage.paths import filesystem_for, model_store

PROMOTED = "_promoted.json"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
"""Names of models and of their versions."""

logger = get_logger("models")


@dataclass(frozen=True)
class Version:
    """A version of a model, with the SHA-256 of each of its files by the path in the run."""

    name: str
    version: str
    files: Mapping[str, str]

    @property
    def path(self) -> str:
        """``NAME/VERSION``, the place in the store."""
        return f"{self.name}/{self.version}"

    @property
    def models(self) -> dict[str, str]:
        """The hash of the weights of each of the four models, as receipts have them."""
        return {name: self._hash(folder) for name, folder in RunLayout("").models.items()}

    def _hash(self, folder: str) -> str:
        inside = {Path(path).name: digest for path, digest in self.files.items() if f"/{path}".startswith(f"{folder}/")}
        return weights_hash({name: digest for name, digest in inside.items() if not is_manifest(name)})[:SHORT]

    def __str__(self) -> str:
        return f"{MODEL_STORE}{self.path} ({', '.join(f'{name} {digest}' for name, digest in self.models.items())})"


class ModelStore:
    """The versions of models below an address, a folder or one such as ``s3://bucket/models``."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.filesystem, self.root = filesystem_for(self.address)

    def names(self) -> list[str]:
        """Return the names of all models that have a version.

        Raises:
            DataError: the store cannot be read.
        """
        return [name for name in self._folders(self.root) if self.versions(name)]

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that are whole, numbers in their order; an empty list if there are none.

        Raises:
            DataError: the store cannot be read.
        """
        return [version for version in self.begun(name) if self._has(f"{name}/{version}")]

    def begun(self, name: str) -> list[str]:
        """Return the versions of a model, also those that are being pushed, or were not pushed to their end.

        Raises:
            DataError: the store cannot be read.
        """
        folders = self._folders(f"{self.root}/{name}")
        return sorted(folders, key=lambda each: (int(each) if each.isdecimal() else 0, each))

    def promoted(self, name: str) -> str | None:
        """Return the version that the name of a model alone means; None if none was promoted.

        Raises:
            DataError: the store cannot be read.
        """
        text = self.read(f"{name}/{PROMOTED}")
        try:
            return None if text is None else str(json.loads(text)["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.address}/{name}/{PROMOTED} is damaged: promote a version again.") from error

    def find(self, wanted: str) -> Version:
        """Return the version that ``NAME/VERSION`` or ``NAME`` means.

        Raises:
            DataError: there is none, and which there are; or the store cannot be read.
        """
        name, exact = split(wanted)
        version = exact or self.promoted(name)
        text = None if version is None else self.read(f"{name}/{version}/{MANIFEST}")
        if version is None or text is None:
            raise DataError(self._missing(name, version))
        return Version(name, version, read_manifest(text, f"{self.address}/{name}/{version}/{MANIFEST}"))

    def promote(self, name: str, version: str) -> Version:
        """Let the name of a model mean one of its versions, a newer or an older one, and return that.

        Raises:
            DataError: there is no such version, and which there are; or the store cannot be read or written.
        """
        found = self.find(f"{name}/{version}")
        with as_data_error(self.address):
            write_file(self.filesystem, f"{self.root}/{name}/{PROMOTED}", json.dumps({"version": version}).encode())
        return found

    def pull(self, wanted: str, folder: str | Path) -> Version:
        """Copy a version into a local folder, where there is all of it or nothing, and return it.

        A folder that has it already is checked, and left as it is.

        Raises:
            CheckpointError: a file of the version, or of a folder that has it already, is damaged, and which.
            DataError: there is no such version, the folder holds something else, or one of them cannot be used.
        """
        version, folder = self.find(wanted), Path(folder)
        was_there = folder.exists()
        if not was_there:
            copy_directory(f"{self.address}/{version.path}", folder)
        with as_data_error(folder):
            if manifest_hashes(folder) != version.files:
                raise DataError(f"{folder} holds something else than {version.path}: name another folder.")
        if was_there:
            verify(folder)
        return version

    def read(self, path: str) -> bytes | None:
        """Return the content of a file by its path in the store; None if there is no such file.

        Raises:
            DataError: the store cannot be read.
        """
        with as_data_error(f"{self.address}/{path}"):
            return read_path(self.filesystem, f"{self.root}/{path}") if self._is_file(path) else None

    def _has(self, path: str) -> bool:
        with as_data_error(self.address):
            return self._is_file(f"{path}/{MANIFEST}")

    def _is_file(self, path: str) -> bool:
        return file_info(self.filesystem, f"{self.root}/{path}").is_file

    def _folders(self, path: str) -> list[str]:
        with as_data_error(self.address):
            entries = list_folder(self.filesystem, path)
        return [entry.name for entry in entries if entry.is_folder and NAME.fullmatch(entry.name)]

    def _missing(self, name: str, version: str | None) -> str:
        """Return a sentence on a version that is not there, or not promoted, with what is there."""
        versions = [f"{name}/{each}" for each in self.versions(name)]
        if versions and version is None:
            there = ", ".join(versions)
            return f"{MODEL_STORE}{name} means no version yet: name one of {there}, or promote it (t2i models promote)."
        wanted = f"{MODEL_STORE}{name}/{version}" if version else f"{MODEL_STORE}{name}"
        return f"{wanted} is not in {self.address}: it has {', '.join(versions or self.names()) or 'no models'}."


def exact_run(run: str) -> str:
    """Return ``models://NAME/VERSION`` for an address in the model store, and any other run as it is.

    Jobs ask once, at their start, and a service when it takes a model: so all their processes read the same version,
    whatever is promoted meanwhile.

    Raises:
        DataError: there is no such version, and which there are; or the store cannot be read.
    """
    if not run.startswith(MODEL_STORE):
        return run
    version = ModelStore(model_store()).find(run)
    logger.info("%s is %s", run, version)
    return f"{MODEL_STORE}{version.path}"


def run_setting(default: str | None, meaning: str = "run with tokenizer, dvae, prior and clip") -> Any:
    """Return a dataclass field with a run to read, which is loaded as :func:`exact_run` returns it."""
    return setting(default, f"{meaning}: a directory, s3://... or models://NAME", path="read", resolve=exact_run)


def split(wanted: str) -> tuple[str, str]:
    """Return the name and the version of ``NAME/VERSION``; the version is empty if only a name is given.

    Raises:
        DataError: it is neither.
    """
    name, slash, version = wanted.removeprefix(MODEL_STORE).partition("/")
    if not NAME.fullmatch(name) or (slash and not NAME.fullmatch(version)):
        raise DataError(f"{wanted!r} is no model: write NAME or NAME/VERSION, of letters, digits, '.', '_' and '-'.")
    return name, version
