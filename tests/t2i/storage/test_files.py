from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.manifest import verify, write_manifest
from t2i.storage import DataError, fetch_directory, filesystem_for, list_files, put_directory, write_file


def fill(root: str, names: list[str]) -> None:
    filesystem, path = filesystem_for(root)
    for name in names:
        write_file(filesystem, f"{path}/{name}", name.encode())


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory has been fetched before: what an earlier run cached would never be asked of the store."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")


def test_files_of_a_folder_a_glob_and_a_file(root: str) -> None:
    fill(root, ["set/b.tar", "set/a.tar", "set/sub/c.tar", "set/_skip.tar", "set/.hidden.tar", "set/a.txt"])

    def names(pattern: str) -> list[str]:
        return [file.split("/set/")[1] for file in list_files(f"{root}/{pattern}", ".tar")[1]]

    assert names("set") == ["a.tar", "b.tar", "sub/c.tar"]
    assert names("set/*.tar") == ["a.tar", "b.tar"]
    assert names("*/[bc].tar") == ["b.tar"]
    assert names("set/b.tar") == ["b.tar"]


def test_nothing_there_is_refused(root: str) -> None:
    fill(root, ["set/a.txt"])
    with pytest.raises(DataError, match=r"^path is .*other': there is no such file or folder"):
        list_files(f"{root}/other", ".tar")
    with pytest.raises(DataError, match=r"^path is .*set': it holds nothing that ends in \.tar"):
        list_files(f"{root}/set", ".tar")


def test_a_directory_goes_there_and_back(root: str, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "weights").write_bytes(b"\x00" * 1000)
    write_manifest(local)
    put_directory(local, f"{root}/model")
    assert verify(fetch_directory(f"{root}/model")) == verify(local)


def test_a_changed_directory_is_fetched_anew(bucket: str, tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        (tmp_path / "weights").write_bytes(content)
        write_manifest(tmp_path)
        put_directory(tmp_path, f"{bucket}/model")
        assert (fetch_directory(f"{bucket}/model") / "weights").read_bytes() == content


def test_a_copy_that_nobody_asks_for_makes_room(bucket: str, tmp_path: Path) -> None:
    for name in ("old", "used", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
        write_manifest(tmp_path / name)
        put_directory(tmp_path / name, f"{bucket}/{name}")
    old, used = fetch_directory(f"{bucket}/old"), fetch_directory(f"{bucket}/used")
    for copy in (old, used):
        os.utime(copy, (0, 0))
    fetch_directory(f"{bucket}/used")
    fetch_directory(f"{bucket}/new")
    assert used.exists()
    assert not old.exists()
    assert (fetch_directory(f"{bucket}/old") / "weights").read_text() == "old"


def test_of_a_set_in_parts_the_manifests_are_listed(root: str) -> None:
    fill(root, ["set/attempt-1/part-a.parquet", "set/attempt-2/part-b.parquet", "other/attempt.parquet"])
    with pytest.raises(DataError, match=r"set': it is not complete, so run the job that writes it to its end"):
        list_files(f"{root}/set", ".parquet")
    filesystem, path = filesystem_for(root)
    write_file(filesystem, f"{path}/set/manifest.json", b'{"files": {"attempt-2/part-b.parquet": "hash"}}')
    assert list_files(f"{root}/set", ".parquet")[1] == [f"{path}/set/attempt-2/part-b.parquet"]
    assert list_files(f"{root}/set/*/*.parquet", ".parquet")[1] == [f"{path}/set/attempt-2/part-b.parquet"]
    assert len(list_files(f"{root}/other", ".parquet")[1]) == 1


@pytest.mark.usefixtures("bucket")
def test_unknown_schemes_and_buckets_are_refused() -> None:
    with pytest.raises(DataError, match=r"^path is 'gs://b/x': use a local path or s3://bucket/key"):
        filesystem_for("gs://b/x")
    with pytest.raises(DataError, match=r"^path is 's3://no-such-bucket/x"):
        list_files("s3://no-such-bucket/x", ".tar")


def test_a_cut_local_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Path) -> None:  # between writing and renaming
        raise KeyboardInterrupt

    write_file(pafs.LocalFileSystem(), str(tmp_path / "a"), b"old")
    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_file(pafs.LocalFileSystem(), str(tmp_path / "a"), b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
