"""End this process when its own Ray node is lost: Ray itself would leave it waiting for tasks that nobody runs."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import ray
from ray.exceptions import RayError

POLL_SECONDS = 5.0
LOST = 75
"""Exit status of a driver whose node was lost: EX_TEMPFAIL, the same command may succeed."""


def exit_when_lost() -> None:
    """Watch the node of this driver, in a thread, until Ray is shut down."""
    node = ray.get_runtime_context().get_node_id()
    threading.Thread(target=_watch, args=(node,), daemon=True, name="lost node").start()


def _watch(node: str) -> None:
    while ray.is_initialized() and ray.get_runtime_context().get_node_id() == node:
        if is_lost(node):
            print(
                "Ray's process on this machine is gone (killed, or out of memory): start the job again, "
                "what is finished is kept.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(LOST)  # nothing can be shut down in order any more; Ray's other processes end with this one
        time.sleep(POLL_SECONDS)


def is_lost(node: str) -> bool:
    """Return whether the cluster knows that a node is dead; False while it cannot be asked."""
    try:
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        return any(each["NodeID"] == node and not each["Alive"] for each in nodes)
    except (RayError, ConnectionError, RuntimeError, ValueError):
        return False
