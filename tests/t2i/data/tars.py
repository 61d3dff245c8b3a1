"""Small tars for tests of readers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

Files = Mapping[str, bytes] | Sequence[tuple[str, bytes]]


def picture(value: int = 0) -> bytes:
    """A PNG of one grey."""
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


def tar(files: Files, links: Mapping[str, str] | None = None) -> bytes:
    """A tar of files (pairs of name and content, in order) and of symbolic links to some of them."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return file.getvalue()


def write_shards(folder: Path, *shards: Files) -> str:
    """Write tars ``00000.tar``, ...; return the folder."""
    folder.mkdir(exist_ok=True)
    for number, files in enumerate(shards):
        (folder / f"{number:05}.tar").write_bytes(tar(files))
    return str(folder)
