#!/usr/bin/env python
"""Submit a job to a running Ray cluster and follow its log: what ``make submit`` runs.

    make submit JOB=coco_eval ADDRESS=http://head:8265 ARGS="run=s3://bucket/runs/small out=s3://bucket/eval"

The cluster's token is the one that Ray finds: in RAY_AUTH_TOKEN, in the file RAY_AUTH_TOKEN_PATH, in ~/.ray/auth_token.
Nothing else of this machine's environment goes along: stores' credentials are those of the cluster's nodes.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

import asyncio
import logging
import os
import secrets
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.runtime_env.packaging import create_package
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient
from requests import RequestException

from models.errors import UserError
from t2i.cluster import WANTS_TOKEN
from t2i.config import ROOT

JOBS = sorted({file.stem for file in (ROOT / "jobs").glob("*.py")} - {"_source", "demo", "submit"})
WITHOUT_IMAGES = ("export_models", "generate", "import_dvae", "simulate_service", "train_prior")
"""Jobs that read no captioned images, so that those that come with the code need not go along."""


def main(job: str, address: str, words: Sequence[str]) -> int:
    """Submit ``job`` with its ``words``, print its log until it ends, and return 0 if it has succeeded.

    Raises:
        UserError: there is no such job, or no cluster at ``address`` that takes it.
    """
    check(job, address)
    with tempfile.TemporaryDirectory() as folder, answering(address):
        client = connect(address)
        package = pack(Path(folder), unread(job, words))
        print(f"uploading {package.stat().st_size / 1e6:.1f} MB, unless {address} has them already", flush=True)
        name = client.submit_job(
            entrypoint=shlex.join(["python", f"jobs/{job}.py", *words]),
            runtime_env={"working_dir": str(package)},
            submission_id=f"{job}-{secrets.token_hex(4)}",
        )
    print(f"{name} goes on if you leave its log (Ctrl-C): `ray job logs {name}`, `ray job stop {name}`", flush=True)
    try:
        asyncio.run(follow(client, name))
    except KeyboardInterrupt:
        return 130
    status = client.get_job_status(name)
    print(f"{name}: {status.value.lower()}")
    return int(status != JobStatus.SUCCEEDED)


def check(job: str, address: str) -> None:
    """Raise UserError if there is no such job, or if ``address`` cannot be a dashboard's."""
    if job not in JOBS:
        raise UserError(f"JOB is {job!r}: use one of {', '.join(JOBS)}.")
    if not address.startswith(("http://", "https://")):
        raise UserError(f"ADDRESS is {address!r}: give that of the cluster's dashboard, as in http://head:8265.")


@contextmanager
def answering(address: str) -> Iterator[None]:
    """Convert what Ray raises in the block, where the cluster does not answer or refuses, into UserError."""
    try:
        yield
    except AuthenticationError as error:
        raise UserError(f"Ray at {address} {WANTS_TOKEN}") from error
    except (ConnectionError, RuntimeError, RequestException) as error:
        reason = str(error).strip().splitlines()[-1].rstrip(".")  # of a traceback, too
        remedy = "correct it, or try again once the cluster is up"
        raise UserError(f"ADDRESS is {address}, and Ray did not take the job there ({reason}): {remedy}.") from error


def connect(address: str) -> JobSubmissionClient:
    """Return a client for the dashboard at ``address``, which sends the token if Ray finds one."""
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # as ray.init() does; the client does not
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # which Ray would prefer to its argument
    return JobSubmissionClient(address)


def pack(folder: Path, excludes: Sequence[str]) -> Path:
    """Return a zip file, made in ``folder``, of what .rayignore leaves of this checkout, without ``excludes``."""
    package = folder / "checkout.zip"
    create_package(str(ROOT), package, include_gitignore=True, excludes=list(excludes))
    return package


def unread(job: str, words: Sequence[str]) -> list[str]:
    """Return the folders with data that comes with the code which a job with these words does not read."""
    never = ["/jobs/datasets", "/models/trained"] if job in WITHOUT_IMAGES else ["/models/trained"]
    return [folder for folder in never if folder[1:] not in " ".join(words)]


async def follow(client: JobSubmissionClient, name: str) -> None:
    """Print the log of a job until it ends."""
    async for lines in client.tail_job_logs(name):
        print(lines, end="", flush=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # Ray's remarks on packages and tokens
    job, address, *words = sys.argv[1:]
    try:
        sys.exit(main(job, address, words))
    except UserError as error:
        print(f"submit: {error}", file=sys.stderr)
        sys.exit(2)
