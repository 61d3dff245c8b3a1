"""``ray job submit`` from the repository's root."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from typing import Any

from tests.commands import ROOT


def submit(command: Sequence[str], **options: Any) -> str:
    """Run a command that submits a job, once the head's agent is up: Ray has no other way of asking whether it is.

    Returns:
        what it printed; the job has succeeded.
    """
    for _ in range(30):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, **options)
        if "No available agent" not in done.stdout + done.stderr:
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
