"""Jobs submitted as the README says, and submitted again when their driver was lost."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from tests.cluster.cluster import Cluster
from tests.cluster.jobs import Job
from tests.drill.timeline import Stage, Timeline

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
ATTEMPTS = 5
POLL_S = 1.0


def run_jobs(cluster: Cluster, jobs: Sequence[Job], run: str, timeline: Timeline) -> None:
    """Run jobs one after the other to their ends.

    Raises:
        RuntimeError: one did not succeed, however often it was submitted.
    """
    for job in jobs:
        for _ in range(ATTEMPTS):
            stage = Stage(job.name, run, timeline.now())
            timeline.stages.append(stage)
            stage.outcome = _wait_for(cluster, _submit(cluster, job))
            stage.ended = timeline.now()
            if stage.outcome == ENDED[0]:
                break
        else:
            raise RuntimeError(f"{job.name} of {run} has failed {ATTEMPTS} times.")


def _submit(cluster: Cluster, job: Job) -> str:
    """Submit a job, as soon as there is a head that takes it, and return its id."""
    while True:
        name = f"{job.name}-{secrets.token_hex(4)}"
        options = ["--no-wait", f"--submission-id={name}", "--working-dir=."]
        with suppress(subprocess.CalledProcessError):
            cluster.run("ray", "job", "submit", *options, "--", "python", f"jobs/{job.name}.py", *job.words)
            return name
        time.sleep(POLL_S)


def _wait_for(cluster: Cluster, name: str) -> str:
    """Return Ray's word for how a job has ended; heads may come and go meanwhile.

    It reads the logs as well, as ``ray job submit`` does: a new head looks after the jobs of the one before only from
    the first such request on, and tells until then that they are running (Ray #65037).
    """
    while True:
        with suppress(OSError):
            if (status := str(cluster.ask(f"/api/jobs/{name}")["status"])) in ENDED:
                return status
            cluster.ask(f"/api/jobs/{name}/logs")
        time.sleep(POLL_S)
