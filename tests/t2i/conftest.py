"""A local S3 server, and a proxy in front of it that fails on request."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.t2i.storage.faulty_store import FaultyStore
from tests.t2i.storage.seaweed import make_bucket, seaweed


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as address:
        yield address


@pytest.fixture(scope="session")
def _bucket_of_all(s3_server: str) -> str:
    """The URI of a bucket that all tests share: each bucket would cost the server a second."""
    return make_bucket(s3_server, "tests")


@pytest.fixture
def bucket(_bucket_of_all: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty folder in a bucket; ``AWS_ENDPOINT_URL`` names the server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    return f"{_bucket_of_all}/{uuid.uuid4().hex[:12]}"


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
