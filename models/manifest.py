"""Manifests: a file in each directory that names its other files and their hashes, and is written last.

A directory without its manifest is incomplete, and no reader uses what a killed writer left there.

Several processes (``world`` of them) can write one directory together: each writes a manifest of its own files, for
rank 3 of 8 ``manifest-00003-of-00008.json``, and the directory is complete when all 8 are there. Every attempt needs a
new directory, since the manifests of an earlier one would be counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from models.errors import UserError
from models.files import TEMPORARY, write_whole

MANIFEST = "manifest.json"
"""Name of the manifest of a directory with one writer."""

WEIGHTS = "weights.safetensors"
"""Name of the weights file in a model directory."""

SHORT = 12
"""Hex digits of a hash that are enough to tell models apart, for people."""

_RANK_MANIFEST = re.compile(r"manifest-(\d{5})-of-(\d{5})\.json")


class CheckpointError(UserError):
    """A model directory is missing, incomplete or damaged."""


def write_manifest(directory: Path, rank: int = 0, world: int = 1) -> None:
    """Write the manifest of all files in ``directory``, which completes it.

    Of ``world`` writers, each has a local directory with its own files alone, and writes the manifest of its ``rank``.
    """
    manifest = MANIFEST if world == 1 else f"manifest-{rank:05}-of-{world:05}.json"
    files = {
        file.name: file_hash(file)
        for file in sorted(directory.iterdir())
        if file.is_file() and not is_manifest(file.name) and file.suffix != TEMPORARY
    }
    write_whole(directory / manifest, manifest_text(files))


def manifest_text(files: Mapping[str, str]) -> bytes:
    """Return the content of a manifest, given the SHA-256 of each file by its path within the directory."""
    return json.dumps({"files": dict(files)}, indent=2).encode()


def is_manifest(name: str) -> bool:
    """Return whether a file of this name is a manifest, of one writer or of one rank."""
    return name == MANIFEST or _RANK_MANIFEST.fullmatch(name) is not None


def complete_manifests(names: Iterable[str], directory: str | Path) -> list[str]:
    """Return the names of the manifests that make ``directory`` complete, given the names of all its files.

    That is the one of a single writer, or those of all ranks.

    Raises:
        CheckpointError: there are none, or those of some ranks are missing.
    """
    # Ranks are counted by the world size in their names, since manifests of different world sizes can be side by side
    # when a run was resumed with another number of workers:
    #
    #     manifest-00000-of-00002.json                                    1 of 2: incomplete
    #     manifest-00000-of-00003.json, -00001-of-, -00002-of-            3 of 3: complete, these are returned
    names = set(names)
    if MANIFEST in names:
        return [MANIFEST]
    by_world: dict[int, list[str]] = {}
    for name in sorted(names):
        if match := _RANK_MANIFEST.fullmatch(name):
            by_world.setdefault(int(match[2]), []).append(name)
    complete = [found for world, found in sorted(by_world.items()) if len(found) == world]
    if not complete:
        missing = "; ".join(f"{len(found)} of {world} writers finished" for world, found in sorted(by_world.items()))
        raise CheckpointError(f"{directory} is not a complete checkpoint: {missing or f'it has no {MANIFEST}'}.")
    return complete[0]


def manifest_hashes(directory: Path) -> dict[str, str]:
    """Return file name -> SHA-256 from all manifests in ``directory``, whether it is complete or not.

    Raises:
        CheckpointError: a manifest is damaged.
    """
    hashes: dict[str, str] = {}
    for file in sorted(directory.iterdir()):
        if is_manifest(file.name):
            hashes |= read_manifest(file.read_bytes(), file)
    return hashes


def read_manifest(text: bytes, path: str | Path) -> dict[str, str]:
    """Return file name -> SHA-256 of the manifest at ``path``, given its content.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        files: dict[str, str] = json.loads(text)["files"]
        are_inside = all(_is_inside(name) for name in files)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: it is not what was written.") from error
    if not are_inside:  # a reader will write a file of that name
        raise CheckpointError(f"{path} is damaged: it names files outside its directory.")
    return files


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return name == str(path) and name != "." and not path.is_absolute() and ".." not in path.parts


def verify(directory: str | Path, origin: str | Path | None = None) -> dict[str, str]:
    """Check every file of a directory against its manifest, and return file name -> SHA-256.

    Errors call it ``origin``, the directory that it is a copy of, if that is given.

    Raises:
        CheckpointError: there is no manifest, a rank's is missing, a file is missing, or a hash differs.
    """
    directory = Path(directory)
    origin = origin or directory
    names = [file.name for file in directory.iterdir()] if directory.is_dir() else []
    files: dict[str, str] = {}
    for manifest in complete_manifests(names, origin):
        for name, expected in read_manifest((directory / manifest).read_bytes(), f"{origin}/{manifest}").items():
            if not (directory / name).is_file() or file_hash(directory / name) != expected:
                raise CheckpointError(f"{origin}/{name} is missing or damaged: its hash is not {manifest}'s.")
            files[name] = expected
    return files


def is_complete(directory: str | Path) -> bool:
    """Return whether :func:`verify` accepts the directory."""
    try:
        verify(directory)
    except CheckpointError:
        return False
    return True


def model_hash(directory: str | Path) -> str:
    """Return twelve hex digits that identify the weights of a model directory, for reports and logs."""
    return weights_hash(verify(directory))[:SHORT]


def weights_hash(files: Mapping[str, str]) -> str:
    """Return the SHA-256 of a model's weights, given the hash of each file: of the others where it has no weights."""
    return files.get(WEIGHTS) or hashlib.sha256(json.dumps(dict(files)).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
