"""Machines that a cluster may have: each is a session of processes here, and ends at once, with all that runs on it.

They outlive whoever has started them, as those of a cloud do: all that knows of them is a folder.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests import processes


@dataclass(frozen=True)
class Machine:
    """A machine: Ray's id of the node on it, the leader of its session, and what its provider notes of it."""

    name: str
    leader: int
    tags: dict[str, str] = field(default_factory=dict)

    def commands(self) -> dict[int, str]:
        """What runs on it: process -> command line."""
        return processes.in_session(self.leader)


class Machines:
    """The machines that a folder knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], tags: Mapping[str, str], name: str = ""
    ) -> Machine:
        """Start a machine on which a command runs, one that starts a node of Ray in the foreground."""
        name = name or secrets.token_hex(28)
        node = {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": name, "RAY_CLOUD_INSTANCE_ID": name}
        with self.log(name).open("w") as log:
            process = subprocess.Popen(
                list(words),
                env={**environment, **node},
                stdout=log,
                stderr=log,
                cwd=processes.ROOT,
                start_new_session=True,
            )
        machine = Machine(name, process.pid, dict(tags))
        note = self.folder / f"{name}.new"
        note.write_text(json.dumps(asdict(machine)))
        note.rename(note.with_suffix(".json"))
        return machine

    def log(self, name: str) -> Path:
        """Where the output of a machine's command goes."""
        return self.folder / f"{name}.log"

    def running(self) -> list[Machine]:
        """The machines whose command runs, oldest first."""
        files = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        known = [Machine(**json.loads(file.read_text())) for file in files]
        return [machine for machine in known if processes.is_running(machine.leader)]

    def kill(self, machine: Machine) -> None:
        """End a machine as a loss of power would."""
        while left := machine.commands():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
