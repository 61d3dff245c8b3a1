"""A local S3 server, and a proxy in front of it that fails on request."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest

from tests.t2i.storage.faulty_store import FaultyStore
from tests.t2i.storage.seaweed import seaweed


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as address:
        yield address


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URI of an empty bucket; ``AWS_ENDPOINT_URL`` names the server."""
    from t2i.storage import with_retries
    from t2i.storage.s3 import connect

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())
    name = f"{words[:50].strip('-')}-{uuid.uuid4().hex[:8]}"
    with_retries(lambda: connect().call_s3("create_bucket", Bucket=name))  # the server may still be starting
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
