"""Directories whose manifest, with the hash of every file, is written last.

A directory without a valid manifest is not whole: a writer killed half-way leaves nothing that a reader takes for it.
Where W processes write one directory together, each writes a manifest of its own files, for rank 3 of 8
``manifest-00003-of-00008.json``, and the directory is whole when all W are there. Each attempt of theirs needs a
directory of its own: what an earlier one left in it would count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from models.errors import UserError
from models.files import TEMPORARY, write_whole

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
_PART = re.compile(r"manifest-(\d{5})-of-(\d{5})\.json")


class CheckpointError(UserError):
    """A model directory is missing, incomplete or damaged."""


def write_manifest(directory: Path, rank: int = 0, world: int = 1) -> None:
    """Hash every file of ``directory``, writer ``rank``'s alone, into the manifest of that one of ``world`` writers.

    Calling this is what makes the directory whole.
    """
    manifest = MANIFEST if world == 1 else f"manifest-{rank:05}-of-{world:05}.json"
    files = {
        file.name: file_hash(file)
        for file in sorted(directory.iterdir())
        if file.is_file() and not is_manifest(file.name) and file.suffix != TEMPORARY
    }
    write_whole(directory / manifest, json.dumps({"files": files}, indent=2).encode())


def is_manifest(name: str) -> bool:
    """Whether a file of this name is a manifest, or a part of one."""
    return name == MANIFEST or _PART.fullmatch(name) is not None


def complete_manifests(names: Iterable[str], directory: str | Path) -> list[str]:
    """Of all file names in ``directory``, the manifests that make it whole: the one, or all of one W.

    Raises:
        CheckpointError: there are none, or some writers' are missing.
    """
    names = set(names)
    if MANIFEST in names:
        return [MANIFEST]
    parts: dict[int, list[str]] = {}
    for name in sorted(names):
        if match := _PART.fullmatch(name):
            parts.setdefault(int(match[2]), []).append(name)
    whole = [found for world, found in sorted(parts.items()) if len(found) == world]
    if not whole:
        missing = "; ".join(f"{len(found)} of {world} writers finished" for world, found in sorted(parts.items()))
        raise CheckpointError(f"{directory} is not a complete checkpoint: {missing or f'it has no {MANIFEST}'}.")
    return whole[0]


def manifest_hashes(directory: Path) -> dict[str, str]:
    """File name -> SHA-256, as all manifests that are in ``directory`` say.

    Raises:
        CheckpointError: one is damaged.
    """
    hashes: dict[str, str] = {}
    for file in sorted(directory.iterdir()):
        if is_manifest(file.name):
            hashes |= _read(file)
    return hashes


def _read(manifest: Path) -> dict[str, str]:
    try:
        files: dict[str, str] = json.loads(manifest.read_text())["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{manifest} is damaged: it is not what was written.") from error
    if any(Path(name).name != name for name in files):  # it will be written under that name
        raise CheckpointError(f"{manifest} is damaged: it names files outside its directory.")
    return files


def verify(directory: str | Path) -> dict[str, str]:
    """Return file name -> SHA-256 of a whole directory.

    Raises:
        CheckpointError: no manifest, a writer's is missing, a file is missing, or a hash differs.
    """
    directory = Path(directory)
    names = [file.name for file in directory.iterdir()] if directory.is_dir() else []
    files: dict[str, str] = {}
    for manifest in complete_manifests(names, directory):
        for name, expected in _read(directory / manifest).items():
            if not (directory / name).is_file() or file_hash(directory / name) != expected:
                raise CheckpointError(f"{directory / name} is missing or damaged: its hash is not {manifest}'s.")
            files[name] = expected
    return files


def is_complete(directory: str | Path) -> bool:
    """Whether :func:`verify` would accept the directory."""
    try:
        verify(directory)
    except CheckpointError:
        return False
    return True


def model_hash(directory: str | Path) -> str:
    """Twelve hex digits that name the weights of a model directory, for reports and logs."""
    files = verify(directory)
    return files.get(WEIGHTS, hashlib.sha256(json.dumps(files).encode()).hexdigest())[:12]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
