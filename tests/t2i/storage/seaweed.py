"""A real S3 server on this machine: SeaweedFS, which checks signatures as Amazon's does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.processes import running

ACCESS_KEY = "test"
SECRET_KEY = "the-secret-of-the-test-store"  # a text that is nowhere by chance
IDENTITY = {
    "name": "test",
    "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
    "actions": ["Admin", "Read", "Write", "List"],
}
PORTS = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]


@contextmanager
def seaweed(folder: Path) -> Iterator[str]:
    """Run a server on free ports, with its data in ``folder``, and yield its address when it takes connections."""
    (folder / "s3.json").write_text(json.dumps({"identities": [IDENTITY]}))
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    options = {
        "dir": folder,
        "ip": "127.0.0.1",
        "volume.max": 1000,  # each bucket has volumes of its own
        "master.volumeSizeLimitMB": 1024,
        "master.telemetry": "false",
        "filer": "true",
        "s3": "true",
        "s3.config": folder / "s3.json",
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        **ports,
    }
    weed = str(Path(sys.executable).parent / "weed")
    words = [weed, "-logtostderr=true", "server", *(f"-{name}={value}" for name, value in options.items())]
    with (folder / "log").open("w") as log, running(words, stderr=log) as process:
        _wait_for(ports["s3.port"], process)
        yield f"http://127.0.0.1:{ports['s3.port']}"


def make_bucket(server: str, name: str) -> str:
    """Make a bucket as soon as the server can, and return its URI."""
    from t2i.storage import with_retries
    from t2i.storage.s3 import S3

    filesystem = S3(server, None, attempts=1)
    with_retries(lambda: filesystem.call_s3("create_bucket", Bucket=name))  # the server may still be starting
    with_retries(lambda: filesystem.pipe_file(f"{name}/first", b""))
    return f"s3://{name}"


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise RuntimeError(f"weed ended with code {process.returncode}")
