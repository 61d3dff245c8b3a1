"""Leave known lines out of what native code prints to this process's standard error, where there is no logger."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

KNOWN = (b"has constructor arguments in the object store and max_restarts > 0",)
"""Parts of the lines that are left out: Ray's C++ prints this one for every actor pool of Ray Data (issue 53727)."""


def hide_known_lines() -> None:
    """From now on pass the standard error of native code on without the lines that have one of :data:`KNOWN` in them.

    Python's own ``sys.stderr`` goes past it, straight to the terminal or file. Does nothing where ``sys.stderr`` is
    something else already, as in a test.
    """
    try:
        direct = sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # no file at all
        return
    if not direct:
        return
    terminal = os.dup(2)
    source, sink = os.pipe()
    os.dup2(sink, 2)
    os.close(sink)
    sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    threading.Thread(target=_pass_on, args=(source, terminal), daemon=True, name="native stderr").start()


def _pass_on(source: int, terminal: int) -> None:
    for kept in keep_lines(iter(lambda: os.read(source, 65536), b"")):
        os.write(terminal, kept)


def keep_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what comes in ``chunks`` as soon as it may be passed on: all but whole lines that are known."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if kept := b"".join(line + b"\n" for line in lines if not any(part in line for part in KNOWN)):
            yield kept
        if rest and not rest.startswith(b"["):  # Ray's lines begin so; others, such as a progress bar, may have no end
            yield rest
            rest = b""
    if rest:
        yield rest
