"""Storage on an S3 server that is busy, cut off, gone, or says no."""

from __future__ import annotations

import pickle  # noqa: TID251
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.manifest import CheckpointError, verify, write_manifest
from t2i.storage import (
    DataError,
    delete_file,
    fetch_directory,
    filesystem_for,
    list_files,
    list_folder,
    put_directory,
    read_file,
    retry,
    s3,
    transfer,
    write_file,
)
from tests.t2i.storage.faulty_store import STALL_SECONDS, FaultyStore

FAULTS = ["busy", "reset", "cut", "lost"]


def put_text(uri: str, text: str) -> None:
    write_file(*filesystem_for(uri), text.encode())


@contextmanager
def failing(store: FaultyStore, fault: str) -> Iterator[None]:
    """The next four requests of the block fail, and all four are made (an answer without a body cannot be cut)."""
    store.fail(*[fault] * 4)
    yield
    assert fault == "cut" or not store.faults


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory of files of several pieces, and a cache of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 7_000_000)
    monkeypatch.setattr(s3, "PIECE_BYTES", 6_000_000)
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "weights").write_bytes(bytes(range(256)) * 80_000)  # 20 MB: an upload of four parts
    (directory / "config").write_text("config")
    write_manifest(directory)
    return directory


@pytest.mark.parametrize("fault", FAULTS)
def test_files_survive_four_faults_in_a_row(bucket: str, store: FaultyStore, fault: str) -> None:
    put_text(f"{bucket}/a", "old")
    with failing(store, fault):
        put_text(f"{bucket}/a", "new")
    with failing(store, fault):
        assert read_file(f"{bucket}/a") == b"new"
    with failing(store, fault):
        assert len(list_files(bucket, "")[1]) == 1
    with failing(store, fault):
        delete_file(*filesystem_for(f"{bucket}/a"))
    assert list_folder(*filesystem_for(bucket)) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_directories_survive_four_faults_in_a_row(bucket: str, store: FaultyStore, model: Path, fault: str) -> None:
    with failing(store, fault):
        put_directory(model, f"{bucket}/model")
    with failing(store, fault):
        assert verify(fetch_directory(f"{bucket}/model")) == verify(model)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_in_the_middle_of_a_large_file_are_survived(
    bucket: str, store: FaultyStore, model: Path, fault: str
) -> None:
    store.fail(*[fault] * 3, only="partNumber")
    put_directory(model, f"{bucket}/model")
    assert not store.faults
    store.fail(*[fault] * 4, only="GET /" + bucket.removeprefix("s3://") + "/model/weights")
    assert verify(fetch_directory(f"{bucket}/model")) == verify(model)
    assert not store.faults


def test_a_store_that_is_gone_for_a_while_is_waited_for(bucket: str, store: FaultyStore, model: Path) -> None:
    back = threading.Event()
    with store.away():

        def put() -> None:
            put_directory(model, f"{bucket}/model")
            back.set()

        working = threading.Thread(target=put)
        working.start()
        assert not back.wait(0.5)
    working.join()
    assert back.is_set()
    assert verify(fetch_directory(f"{bucket}/model")) == verify(model)


def test_an_answer_that_never_comes_is_not_waited_for(
    bucket: str, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "READ_TIMEOUT", 1.0)
    put_text(f"{bucket}/a", "a")
    store.fail("stall")
    began = time.monotonic()
    assert read_file(f"{bucket}/a") == b"a"
    assert not store.faults
    assert time.monotonic() - began < STALL_SECONDS / 2


def test_patience_ends(bucket: str, store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0.1, 0.01, 0.02, library_attempts=1))
    store.fail(*["busy"] * 1000)
    with pytest.raises(DataError, match=r"^path is 's3://.*': it cannot be used \(SlowDown: .*rate\)\.$"):
        read_file(f"{bucket}/a")


@pytest.mark.parametrize(
    "use",
    [read_file, lambda uri: put_text(uri, "x"), lambda uri: list_files(uri, ""), fetch_directory],
)
def test_a_refusal_is_final(bucket: str, store: FaultyStore, use: Callable[[str], object]) -> None:
    store.fail(*["denied"] * 100)
    with pytest.raises((DataError, OSError), match=r"(AccessDenied|HTTP 403): .*check the credentials"):
        use(f"{bucket}/a")
    assert len(store.requests) == 1


def test_what_is_not_there_is_not_waited_for(bucket: str, store: FaultyStore) -> None:
    store.fail()
    with pytest.raises(
        DataError, match=r"^path is .*: it cannot be used \(NoSuchKey: The specified key does not exist\)\.$"
    ):
        read_file(f"{bucket}/missing")
    with pytest.raises(DataError, match=r"^path is .*missing': there is no such file or folder\.$"):
        list_files(f"{bucket}/missing", ".tar")
    for use in (read_file, lambda uri: list_files(uri, ".tar")):
        with pytest.raises(
            DataError, match=r"^path is 's3://no-such-bucket/a': it cannot be used \(NoSuchBucket: .*\)\.$"
        ):
            use("s3://no-such-bucket/a")
    assert len(store.requests) == 6  # a GET for each of two; a HEAD and a LIST for what might be a folder


def test_an_upload_cut_short_never_looks_whole(
    bucket: str, store: FaultyStore, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_directory(model, f"{bucket}/model")
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0, 0.01, 0.02, library_attempts=1))
    store.fail("reset", "reset", "reset", "reset", only="partNumber=2")
    with pytest.raises(DataError, match="Could not connect"):
        put_directory(model, f"{bucket}/model")
    store.fail()
    with pytest.raises(CheckpointError, match=r"model is not a complete checkpoint: it has no manifest\.json"):
        fetch_directory(f"{bucket}/model")


def test_a_failed_upload_leaves_the_old_file(bucket: str, store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put_text(f"{bucket}/a", "old")
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0, 0.01, 0.02, library_attempts=1))
    store.fail("busy", only="PUT")
    with pytest.raises(OSError, match=r"^SlowDown: Please reduce your request rate$"):
        put_text(f"{bucket}/a", "new")
    assert read_file(f"{bucket}/a") == b"old"


def test_what_was_damaged_on_the_way_is_refused(bucket: str, model: Path) -> None:
    put_directory(model, f"{bucket}/model")
    put_text(f"{bucket}/model/config", "c0nfig")
    with pytest.raises(CheckpointError, match="config is missing or damaged"):
        fetch_directory(f"{bucket}/model")
    delete_file(*filesystem_for(f"{bucket}/model/config"))
    with pytest.raises(CheckpointError, match="config is missing or damaged"):
        fetch_directory(f"{bucket}/model")


def test_what_changed_after_its_manifest_is_not_put_as_whole(bucket: str, model: Path) -> None:
    (model / "config").write_text("c0nfig")
    with pytest.raises(DataError, match="config was changed or damaged after its manifest was written"):
        put_directory(model, f"{bucket}/model")
    with pytest.raises(CheckpointError, match=r"it has no manifest\.json"):
        fetch_directory(f"{bucket}/model")


def test_workers_get_a_file_system_that_tries_as_often(bucket: str, store: FaultyStore) -> None:
    put_text(f"{bucket}/a", "a")
    retry.RETRY_POLICY = retry.RetryPolicy(library_attempts=2)  # the fixture's monkeypatch puts the old one back
    filesystem, path = filesystem_for(f"{bucket}/a")
    sent = pickle.loads(pickle.dumps(filesystem))
    store.fail("busy")
    assert sent.cat_file(path) == b"a"
