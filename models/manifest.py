"""Directories whose manifest, with the hash of every file, is written last.

A directory without a valid manifest is not whole: a writer killed half-way leaves nothing that a reader takes for it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from models.errors import UserError

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"


class CheckpointError(UserError):
    """A model directory is missing, incomplete or damaged."""


def write_manifest(directory: Path) -> None:
    """Hash every file of ``directory`` into its manifest; calling this is what makes the directory whole."""
    files = {
        file.name: file_hash(file) for file in sorted(directory.iterdir()) if file.is_file() and file.name != MANIFEST
    }
    temporary = directory / f".{MANIFEST}"
    temporary.write_text(json.dumps({"files": files}, indent=2))
    temporary.rename(directory / MANIFEST)


def verify(directory: str | Path) -> dict[str, str]:
    """Return file name -> SHA-256 of a whole directory.

    Raises:
        CheckpointError: no manifest, a file is missing, or a hash differs.
    """
    directory = Path(directory)
    manifest = directory / MANIFEST
    if not manifest.is_file():
        raise CheckpointError(f"{directory} is not a complete checkpoint: it has no {MANIFEST}.")
    files: dict[str, str] = json.loads(manifest.read_text())["files"]
    for name, expected in files.items():
        if not (directory / name).is_file() or file_hash(directory / name) != expected:
            raise CheckpointError(f"{directory / name} is missing or damaged: its hash is not the manifest's.")
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
