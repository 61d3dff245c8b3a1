"""Stores as Ray Data, Ray Train and pyarrow see them."""

from __future__ import annotations

import io
import pickle  # noqa: TID251
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from s3fs import S3File

from t2i.storage import arrow_filesystem, filesystem_for, list_folder, read_path, retry, write_file
from tests.t2i.storage.faulty_store import FaultyStore

TABLE = pa.table({"id": [str(row) for row in range(1000)], "bytes": [bytes(1000)] * 1000})


@pytest.fixture
def parquet(bucket: str) -> str:
    """The URI of a Parquet file of several row groups, in a folder with characters that globs and addresses like."""
    buffer = io.BytesIO()
    pq.write_table(TABLE, buffer, row_group_size=300, compression="none")
    write_file(*filesystem_for(f"{bucket}/set #2 [v]/a.parquet"), buffer.getvalue())
    return f"{bucket}/set #2 [v]/a.parquet"


def test_a_local_file_system_is_pyarrows_own(tmp_path: Path) -> None:
    assert isinstance(arrow_filesystem(filesystem_for(tmp_path)[0]), pafs.LocalFileSystem)


@pytest.mark.parametrize("fault", ["busy", "reset", "cut", "lost"])
def test_a_table_is_read_through_faults(parquet: str, store: FaultyStore, fault: str) -> None:
    filesystem, path = filesystem_for(parquet)
    arrow = pickle.loads(pickle.dumps(arrow_filesystem(filesystem)))  # as a worker gets it
    store.fail(*[fault] * 5)
    assert pq.read_table(path, filesystem=arrow).equals(TABLE)
    assert fault == "cut" or not store.faults


def test_of_a_column_only_its_bytes_are_fetched(parquet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem, path = filesystem_for(parquet)
    fetched = 0

    fetch = S3File._fetch_range

    def counting(self: S3File, start: int, end: int) -> bytes:
        nonlocal fetched
        fetched += end - start
        return fetch(self, start, end)

    monkeypatch.setattr(S3File, "_fetch_range", counting)
    assert pq.read_table(path, columns=["id"], filesystem=arrow_filesystem(filesystem)).num_rows == 1000
    assert 0 < fetched < 0.2 * TABLE.nbytes


def test_a_store_that_is_gone_is_not_a_missing_file(
    parquet: str, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystem, path = filesystem_for(parquet)
    arrow = arrow_filesystem(filesystem)
    with pytest.raises(FileNotFoundError):
        arrow.open_input_file(f"{path}.not")
    assert arrow.get_file_info(f"{path}.not").type == pafs.FileType.NotFound
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0, 0.01, 0.02))
    with store.away():
        for use in (arrow.open_input_file, arrow.open_input_stream, arrow.get_file_info):
            with pytest.raises(OSError, match="Could not connect") as raised:
                use(path)
            assert not isinstance(raised.value, FileNotFoundError)


def test_files_and_folders_are_those_of_the_store(parquet: str, bucket: str) -> None:
    filesystem, root = filesystem_for(bucket)
    arrow = arrow_filesystem(filesystem)
    folder = parquet.removeprefix("s3://").rpartition("/")[0]
    assert [info.path for info in arrow.get_file_info(pafs.FileSelector(root))] == [folder]
    above, file = sorted(arrow.get_file_info(pafs.FileSelector(root, recursive=True)), key=lambda info: info.path)
    assert (above.path, above.type) == (folder, pafs.FileType.Directory)
    assert (file.path, file.is_file) == (f"{folder}/a.parquet", True)
    assert file.size == arrow.open_input_file(file.path).size()
    with pytest.raises(FileNotFoundError):
        arrow.get_file_info(pafs.FileSelector(f"{root}/none"))
    with arrow.open_output_stream(f"{folder}/b") as stream:
        stream.write(b"b")
        assert len(list_folder(filesystem, folder)) == 1, "nothing is seen before all is there"
    assert read_path(filesystem, f"{folder}/b") == b"b"
    arrow.delete_file(f"{folder}/b")
    arrow.delete_dir(folder)
    assert list_folder(filesystem, root) == []


def test_a_stream_that_is_never_closed_writes_nothing(bucket: str) -> None:
    filesystem, root = filesystem_for(bucket)
    arrow_filesystem(filesystem).open_output_stream(f"{root}/half").write(b"half")
    assert list_folder(filesystem, root) == []


@pytest.mark.usefixtures("bucket")
def test_a_bucket_is_not_made_in_passing() -> None:
    filesystem, path = filesystem_for("s3://no-such-bucket/run")
    arrow_filesystem(filesystem).create_dir(path)
    with pytest.raises(FileNotFoundError, match="NoSuchBucket"):
        write_file(filesystem, f"{path}/a", b"a")
