"""An S3 server of our own, and a proxy before it that can be told to fail."""

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
    """An empty bucket's URI; the environment points at the server, as a user's would."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")[:63]
    pafs.S3FileSystem(endpoint_override=s3_server, allow_bucket_creation=True).create_dir(name)
    return f"s3://{name}"


@pytest.fixture
def store(s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """What stands between ``bucket`` and whoever uses it; only our own retries are at work, and they hurry."""
    from t2i.storage import retry

    store = FaultyStore(s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(60, 0.01, 0.05, library_attempts=1))
    yield store
    store.closing.set()
    store.close()
