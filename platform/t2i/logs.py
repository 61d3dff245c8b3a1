"""The log format of drivers, workers and servers."""

from __future__ import annotations

import logging


def get_logger(name: str) -> logging.Logger:
    """Return the logger ``t2i.<name>``; it prints to stderr unless the program has configured ``t2i`` itself."""
    root = logging.getLogger("t2i")
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False
    return logging.getLogger(f"t2i.{name}")
