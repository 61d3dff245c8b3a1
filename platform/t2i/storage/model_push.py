"""Push a run into the model store as a version of a model, which is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.manifest import MANIFEST, complete_manifests, file_hash, manifest_text, read_manifest, verify
from models.run_layout import RunLayout
from t2i.logs import get_logger
from t2i.storage.errors import DataError, as_data_error
from t2i.storage.files import create_file, file_info, write_file
from t2i.storage.model_store import ModelStore, Version, split
from t2i.storage.paths import filesystem_for
from t2i.storage.runs import fetch_file, fetch_run
from t2i.storage.transfer import upload

PUSH = "_push.json"
"""The file by which a push says what the version will have; written once, so that no two contents are mixed."""

logger = get_logger("models")


def push(store: ModelStore, wanted: str, run: str) -> Version:
    """Copy a run into the store as a version of a model, and return that.

    ``wanted`` is ``NAME/VERSION``, or ``NAME`` for the version that has this content, else the next number. What is
    there already is left as it is; a push that was killed is completed by the same again.

    Raises:
        CheckpointError: the run lacks a model, or one is damaged.
        DataError: the version has other content, or run or store cannot be used.
    """
    name, version = split(wanted)
    files = run_files(run)
    hashes = {path: file_hash(file) for path, file in files.items()}
    with as_data_error(store.address):
        if version:
            _claim(store, Version(name, version, hashes))
        else:
            version = _claim_any(store, name, hashes)
        pushed = Version(name, version, hashes)
        if store.read(f"{pushed.path}/{MANIFEST}") is None:
            _upload(store, pushed, files)
    return pushed


def run_files(run: str) -> dict[str, Path]:
    """Return the local files of a run that a version has, by the path in the run: models, records and model card.

    Raises:
        CheckpointError: the run lacks a model, or one is damaged.
        DataError: it cannot be read.
    """
    local, files = RunLayout(fetch_run(run)), dict[str, Path]()
    for folder in map(Path, local.models.values()):
        names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
        for name in (*complete_manifests(names, folder), *verify(folder)):
            files[f"{folder.relative_to(local.run)}/{name}"] = folder / name
    layout = RunLayout(run)
    for document in (layout.card, layout.dvae_record, layout.prior_record):
        if _is_file(document):
            files[document.removeprefix(f"{run}/")] = fetch_file(document)
    return dict(sorted(files.items()))


def _is_file(uri: str) -> bool:
    with as_data_error(uri):
        return file_info(*filesystem_for(uri)).is_file


def _claim_any(store: ModelStore, name: str, hashes: Mapping[str, str]) -> str:
    """Claim the version that has this content, else the next number, and return it."""
    while True:
        begun = {each: _content(store, f"{name}/{each}") for each in store.begun(name)}
        same = [each for each, content in begun.items() if content == manifest_text(hashes)]
        numbers = [each for each in begun if each.isdecimal()]
        free = [each for each in numbers if not begun[each]]  # another push has made the folder, and no claim yet
        following = str(max(map(int, numbers), default=0) + 1)
        version = Version(name, [*same, *free, following][0], hashes)
        if _is_claimed(store, version):  # by another push in the meantime, if not
            return version.version


def _claim(store: ModelStore, version: Version) -> None:
    """Claim a version for its content.

    Raises:
        DataError: it has other content, or was begun with other content.
    """
    if _is_claimed(store, version):
        return
    theirs = read_manifest(_content(store, version.path), f"{store.address}/{version.path}")
    different = [path for path in sorted({*theirs, *version.files}) if theirs.get(path) != version.files.get(path)]
    what = f"{version.path} is there with other content ({', '.join(different)})"
    if store.read(f"{version.path}/{MANIFEST}") is None:
        what = f"{version.path} is not whole, and was begun with other content ({', '.join(different)})"
        raise DataError(f"{what}: push that again, or delete {store.address}/{version.path}, or push another version.")
    raise DataError(f"{what}: push another version.")


def _is_claimed(store: ModelStore, version: Version) -> bool:
    """Return whether a version has, or from now on can only have, this content."""
    claim = manifest_text(version.files)
    create_file(store.filesystem, f"{store.root}/{version.path}/{PUSH}", claim)
    return _content(store, version.path) == claim


def _content(store: ModelStore, path: str) -> bytes:
    """Return the manifest of a version, or what it will be; empty if no push of it has begun."""
    return store.read(f"{path}/{MANIFEST}") or store.read(f"{path}/{PUSH}") or b""


def _upload(store: ModelStore, version: Version, files: Mapping[str, Path]) -> None:
    # Another push of the same content may be doing the same: each file is then replaced, as a whole, by its like.
    for path, digest in version.files.items():
        logger.info("%s: %s", version.path, path)
        if upload(files[path], store.filesystem, f"{store.root}/{version.path}/{path}") != digest:
            raise DataError(f"{files[path]} has changed while it was pushed: push it again.")
    write_file(store.filesystem, f"{store.root}/{version.path}/{MANIFEST}", manifest_text(version.files))
