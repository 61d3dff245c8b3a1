"""Files that are read again once they have changed."""

from __future__ import annotations

import os
from collections.abc import Sequence


class Watched:
    """Some files, of which :meth:`changed` says whether they are other ones than before."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._seen: list[tuple[int, int, int] | None] | None = None

    def changed(self) -> bool:
        """Return whether a file was replaced or written since this was last asked; true the first time.

        Ask before reading: what is written while one reads is then noticed the next time.
        """
        now = [_fingerprint(path) for path in self._paths]
        changed, self._seen = now != self._seen, now
        return changed


def _fingerprint(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # follows links: Kubernetes exchanges a mounted secret by turning a link
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
