"""How S3 is reached: whose credentials are used, who gets to see them, and what several threads may do."""

from __future__ import annotations

import logging
import pickle  # noqa: TID251
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec.config
import pytest

from t2i.storage import DataError, filesystem_for, list_files, read_file, read_path, retry, s3, write_file
from t2i.storage.transfer import upload
from tests.t2i.storage.faulty_store import FaultyStore
from tests.t2i.storage.seaweed import ACCESS_KEY, SECRET_KEY

WRONG = "a-wrong-secret-nobody-may-see"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """No connection, with its credentials, is kept from or for another test."""
    s3.S3.clear_instance_cache()
    yield
    s3.S3.clear_instance_cache()


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the files of AWS; no variable names any credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path


@pytest.mark.parametrize(
    "use", [read_file, lambda uri: list_files(uri, ".tar"), lambda uri: write_file(*filesystem_for(uri), b"x")]
)
def test_a_wrong_secret_is_refused_and_told_to_nobody(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, use: object
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRONG)
    s3.S3.clear_instance_cache()
    with pytest.raises(
        (DataError, OSError), match=r"(SignatureDoesNotMatch|HTTP 403): .*check the credentials"
    ) as raised:
        use(f"{bucket}/a")  # type: ignore[operator]
    filesystem = filesystem_for(bucket)[0]
    assert caplog.text
    for told in (str(raised.value), caplog.text, repr(filesystem), str(pickle.dumps(filesystem))):
        assert WRONG not in told


def test_credentials_come_from_a_profile(bucket: str, profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.S3.clear_instance_cache()
    with pytest.raises(DataError, match=r"it cannot be used \(Unable to locate credentials\)\.$"):
        read_file(f"{bucket}/a")
    s3.S3.clear_instance_cache()
    (profile / "credentials").write_text(
        f"[mine]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    (profile / "config").write_text("[profile mine]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:1\n")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    write_file(*filesystem_for(f"{bucket}/a"), b"a")
    assert read_file(f"{bucket}/a") == b"a"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    filesystem = s3.connect()
    assert (filesystem.endpoint_url, filesystem.client_kwargs) == ("http://127.0.0.1:1", {"region_name": "eu-west-1"})
    monkeypatch.setenv("AWS_PROFILE", "other")
    with pytest.raises(DataError, match=r"^AWS_PROFILE is 'other': it cannot be used \(.*could not be found"):
        filesystem_for(bucket)


def test_workers_get_endpoint_and_region_and_no_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", WRONG)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": "k", "secret": WRONG})
    filesystem = filesystem_for(bucket)[0]
    sent = pickle.dumps(filesystem)
    assert WRONG.encode() not in sent
    endpoint = filesystem.endpoint_url
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    received = pickle.loads(sent)
    assert endpoint
    assert (received.endpoint_url, received.client_kwargs) == (endpoint, {"region_name": "eu-central-1"})


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_does_not_stand_before_this_machine(bucket: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0, 0.01, 0.01))
    write_file(*filesystem_for(f"{bucket}/a"), b"a")


def test_many_threads_share_one_file_system(bucket: str) -> None:
    filesystem, root = filesystem_for(bucket)

    def there_and_back(number: int) -> bool:
        write_file(filesystem, f"{root}/{number}", bytes([number]) * 10_000)
        return read_path(filesystem, f"{root}/{number}") == bytes([number]) * 10_000

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(there_and_back, range(64)))
    assert len(list_files(bucket, "")[1]) == 64


def test_more_files_than_a_page_of_a_listing_are_found(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem, root = filesystem_for(bucket)
    for number in range(5):
        write_file(filesystem, f"{root}/{number}", b"")
    call = type(filesystem)._call_s3

    async def in_small_pages(self: object, method: str, *arguments: object, **options: object) -> object:
        pages = {"MaxKeys": 2} if method == "list_objects_v2" else {}
        return await call(self, method, *arguments, **options | pages)

    monkeypatch.setattr(type(filesystem), "_call_s3", in_small_pages)
    assert len(list_files(bucket, "")[1]) == 5


def test_a_large_upload_that_fails_is_taken_back(
    bucket: str, store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PIECE_BYTES", 6_000_000)
    filesystem, root = filesystem_for(bucket)
    write_file(filesystem, f"{root}/large", b"old")
    (tmp_path / "large").write_bytes(bytes(20_000_000))
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0, 0.01, 0.02, library_attempts=1))
    store.fail("busy", only="partNumber=2")
    with pytest.raises(OSError, match="SlowDown"):
        upload(tmp_path / "large", filesystem, f"{root}/large")
    assert not store.faults
    assert read_path(filesystem, f"{root}/large") == b"old"
    unfinished = [each["Key"] for each in filesystem.list_multipart_uploads("tests")]
    assert not [key for key in unfinished if bucket.endswith(key.partition("/")[0])]
