"""The files in a tar: found by its headers, and read one by one."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO

from fsspec import AbstractFileSystem

from t2i.data.ids import id_text
from t2i.storage import DataError, arrow_filesystem, as_data_error, with_retries
from t2i.storage.retry import TruncatedReadError

BLOCK = 512
READ_BUFFER = 1 << 23
"""Bytes that are read at once when headers are looked for."""
MAX_LINKS = 8
"""Links to links that are followed."""


@dataclass(frozen=True)
class TarMember:
    """A file in a tar: its name, and where in the tar its content is, in bytes."""

    name: str
    offset: int
    size: int


def list_members(filesystem: AbstractFileSystem, file: str) -> list[TarMember]:
    """Return the files of a tar in their order; links count as the files they lead to, hidden files not at all.

    Raises:
        DataError: it cannot be read, is truncated or damaged, or not a tar.
    """
    with as_data_error(file):
        return with_retries(partial(_list_members, filesystem, file))


def _list_members(filesystem: AbstractFileSystem, file: str) -> list[TarMember]:
    opened = arrow_filesystem(filesystem).open_input_file(file)
    with io.BufferedReader(opened, READ_BUFFER) as stream:  # a store would be asked for each header alone
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                found = tar.getmembers()
        except tarfile.ReadError as error:
            raise damaged(file) from error
        stream.seek(tar.offset)
        if not _is_end(stream):
            raise damaged(file)
    by_name = {member.name: member for member in found}
    contents = [(member_name(member.name), _content(member, by_name)) for member in found]
    return [
        TarMember(name, content.offset_data, content.size)
        for name, content in contents
        if content is not None and not posixpath.basename(name).startswith(".")
    ]


def damaged(file: str) -> DataError:
    """Return the error for a tar that does not reach from its first header to its end."""
    return DataError(f"path is {file!r}: it is truncated or not a tar, or goes on after its end, so copy it again.")


def _is_end(stream: IO[bytes]) -> bool:
    """Return whether only zeros follow, at least two blocks of them: the end of a tar.

    Anything else is a header that :mod:`tarfile` cannot read, or a second tar, and it would pass over both in silence.
    """
    length = 0
    while chunk := stream.read(1 << 20):
        if chunk.count(0) < len(chunk):
            return False
        length += len(chunk)
    return length >= 2 * BLOCK


def member_name(name: str) -> str:
    """Return a member's name without ``./`` and the like, as text that can be stored."""
    return id_text(posixpath.normpath(name).lstrip("/")) or ""


def _content(member: tarfile.TarInfo, by_name: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """Return the file that a member is or links to; None for a folder, a device, or a link that leads nowhere."""
    for _ in range(MAX_LINKS):
        if member.isreg():
            return member
        folder = "" if member.islnk() else posixpath.dirname(member.name)  # a hard link counts from the tar's root
        target = by_name.get(posixpath.normpath(posixpath.join(folder, member.linkname)))
        if not (member.islnk() or member.issym()) or target is None:
            return None
        member = target
    return None


def read_members(filesystem: AbstractFileSystem, file: str, members: Sequence[TarMember]) -> list[bytes]:
    """Return the contents of some members of a tar.

    Raises:
        OSError: the tar cannot be read.
    """
    return with_retries(partial(_read_members, filesystem, file, members))


def _read_members(filesystem: AbstractFileSystem, file: str, members: Sequence[TarMember]) -> list[bytes]:
    with arrow_filesystem(filesystem).open_input_file(file) as stream:
        return [_read_one(stream, file, member) for member in members]


def _read_one(stream: IO[bytes], file: str, member: TarMember) -> bytes:
    stream.seek(member.offset)
    data = stream.read(member.size)
    if len(data) != member.size:
        raise TruncatedReadError(f"only {len(data)} of {member.size} bytes of {member.name} in {file} were received")
    return data
