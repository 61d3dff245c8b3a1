"""Time our storage on S3 beside pyarrow's own client: many small objects, and a large one.

    PYTHONPATH=. python jobs/benchmarks/bench_storage.py

Both work on the same local server (SeaweedFS), in turn. Small objects are written and read by eight threads. Times are
medians; ratios are relative to pyarrow. Keep the results in docs/benchmarks.md, with a description of the machine.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import pyarrow.fs as pafs

from harness import machine, medians, timed
from models.settings import setting
from t2i.config import run_job
from t2i.storage import filesystem_for, list_files, read_path, with_retries, write_file
from t2i.storage.s3 import S3
from t2i.storage.transfer import CHUNK_BYTES, PARALLEL_CHUNKS, download, sha256, upload
from tests.t2i.storage.seaweed import ACCESS_KEY, SECRET_KEY, seaweed

BUCKET = "bench"
SMALL = "bench/small"
LARGE = "bench/large"


@dataclass
class BenchStorage:
    """How much is written and read."""

    objects: int = setting(1000, "small objects")
    object_bytes: int = setting(10_000, "size of a small object")
    megabytes: int = setting(1000, "size of the large object, in MB")
    threads: int = setting(8, "threads that write or read small objects")
    repeats: int = setting(3, "timed runs of each client, in turn; the median is printed")


def main(config: BenchStorage) -> None:
    """Print a table of seconds and ratios."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as address:
        file = Path(folder) / "large"
        file.write_bytes(os.urandom(1_000_000) * config.megabytes)
        clients: dict[str, Client] = {
            f"pyarrow {version('pyarrow')}": Arrow(address),
            f"ours, s3fs {version('s3fs')}": Ours(),
        }
        print(f"{machine()}\n{'':<32}" + "".join(f"{name:>32}" for name in clients))
        names = [f"{SMALL}/{number:04}" for number in range(config.objects)]
        small = os.urandom(config.object_bytes)
        for step, run in STEPS.items():
            runs = {name: partial(run, client, names, small, config.threads) for name, client in clients.items()}
            line(f"{step} {len(names)} of {config.object_bytes} bytes", runs, config.repeats)
        for step in ("put", "get", "sha256"):
            copies = {name: partial(getattr(client, step), file) for name, client in clients.items()}
            line(f"{step} {config.megabytes} MB", copies, config.repeats)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run a server with an empty bucket, and yield its address; the usual variables name it and its credentials."""
    with seaweed(folder) as address:
        os.environ |= {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        with_retries(lambda: S3(address, None, 1).call_s3("create_bucket", Bucket=BUCKET))
        yield address


class Client(Protocol):
    """What is timed; paths begin with the bucket."""

    def write(self, path: str, data: bytes) -> None:
        """Write a small object."""

    def read(self, path: str) -> bytes:
        """Return a small object."""

    def list(self) -> int:
        """Return the number of small objects."""

    def put(self, file: Path) -> str:
        """Copy a file to the large object and return its SHA-256."""

    def get(self, file: Path) -> None:
        """Copy the large object to a file."""

    def sha256(self, file: Path) -> str:
        """Return the SHA-256 of the large object."""


class Ours:
    """``t2i.storage``."""

    def __init__(self) -> None:
        self.filesystem = filesystem_for(f"s3://{BUCKET}")[0]

    def write(self, path: str, data: bytes) -> None:
        """Write a small object."""
        write_file(self.filesystem, path, data)

    def read(self, path: str) -> bytes:
        """Return a small object."""
        return read_path(self.filesystem, path)

    def list(self) -> int:
        """Return the number of small objects."""
        return len(list_files(f"s3://{SMALL}", "")[1])

    def put(self, file: Path) -> str:
        """Copy a file to the large object and return its SHA-256."""
        return upload(file, self.filesystem, LARGE)

    def get(self, file: Path) -> None:
        """Copy the large object to a file."""
        download(self.filesystem, LARGE, file.with_suffix(".copy"))

    def sha256(self, file: Path) -> str:  # noqa: ARG002  as the other steps
        """Return the SHA-256 of the large object."""
        return sha256(self.filesystem, LARGE)


class Arrow:
    """pyarrow's client, used as ``t2i.storage`` used it before."""

    def __init__(self, address: str) -> None:
        self.filesystem = pafs.S3FileSystem(endpoint_override=address)

    def write(self, path: str, data: bytes) -> None:
        """Write a small object."""
        with self.filesystem.open_output_stream(path) as stream:
            stream.write(data)

    def read(self, path: str) -> bytes:
        """Return a small object."""
        with self.filesystem.open_input_file(path) as file:
            return bytes(file.read())

    def list(self) -> int:
        """Return the number of small objects."""
        return len(self.filesystem.get_file_info(pafs.FileSelector(SMALL, recursive=True)))

    def put(self, file: Path) -> str:
        """Copy a file to the large object and return its SHA-256."""
        digest = hashlib.sha256()
        with file.open("rb") as source, self.filesystem.open_output_stream(LARGE) as sink:
            while piece := source.read(CHUNK_BYTES):
                digest.update(piece)
                sink.write(piece)
        return digest.hexdigest()

    def get(self, file: Path) -> None:
        """Copy the large object to a file."""
        copy = file.with_suffix(".copy")
        copy.touch()

        def fetch(offset: int) -> None:
            piece = source.read_at(CHUNK_BYTES, offset)
            with copy.open("r+b") as sink:
                sink.seek(offset)
                sink.write(piece)

        with self.filesystem.open_input_file(LARGE) as source, ThreadPoolExecutor(PARALLEL_CHUNKS) as pool:
            list(pool.map(fetch, range(0, source.size(), CHUNK_BYTES)))

    def sha256(self, file: Path) -> str:  # noqa: ARG002  as the other steps
        """Return the SHA-256 of the large object."""
        digest = hashlib.sha256()
        with self.filesystem.open_input_file(LARGE) as source:
            for offset in range(0, source.size(), CHUNK_BYTES):
                digest.update(source.read_at(CHUNK_BYTES, offset))
        return digest.hexdigest()


def write_all(client: Client, names: list[str], data: bytes, threads: int) -> None:
    """Write small objects."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda name: client.write(name, data), names))


def list_all(client: Client, names: list[str], data: bytes, threads: int) -> None:  # noqa: ARG001  as the other steps
    """List small objects."""
    assert client.list() == len(names)


def read_all(client: Client, names: list[str], data: bytes, threads: int) -> None:
    """Read small objects."""
    with ThreadPoolExecutor(threads) as pool:
        assert all(found == data for found in pool.map(client.read, names))


STEPS: dict[str, Callable[[Client, list[str], bytes, int], None]] = {
    "write": write_all,
    "list": list_all,
    "read": read_all,
}


def line(what: str, runs: Mapping[str, Callable[[], object]], repeats: int) -> None:
    """Print each client's seconds, how many times those of the first they are, and the CPU seconds it takes itself."""
    seconds = timed(runs, repeats, what)
    cpu = medians({name: partial(cpu_seconds, run) for name, run in runs.items()}, repeats=1)
    first = next(iter(seconds.values()))
    columns = [f"{value:>10.2f} s {value / first:>6.2f} x {cpu[name]:>6.2f} s CPU" for name, value in seconds.items()]
    print(f"{what:<32}" + "".join(columns), flush=True)


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds of this process in ``run``; the server's are not among them."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


if __name__ == "__main__":
    run_job(main, BenchStorage, "bench_storage")
