"""A local S3 server, and a proxy in front of it that fails on request."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.fs as pafs
import pytest
from moto.server import ThreadedMotoServer

from tests.t2i.storage.faulty_store import FaultyStore


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URI of an empty bucket; ``AWS_ENDPOINT_URL`` names the server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")[:63]
    pafs.S3FileSystem(endpoint_override=s3_server, allow_bucket_creation=True).create_dir(name)
    return f"s3://{name}"


@pytest.fixture
def store(
    s3_server: str,
    bucket: str,  # noqa: ARG001  it sets AWS_ENDPOINT_URL to the server, which this fixture sets to the proxy afterwards
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[FaultyStore]:
    """A proxy in front of ``bucket``'s server; the AWS library does not retry, and our retries have short waits."""
    from t2i.storage import retry

    store = FaultyStore(s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(60, 0.01, 0.05, library_attempts=1))
    yield store
    store.closing.set()
    store.close()
