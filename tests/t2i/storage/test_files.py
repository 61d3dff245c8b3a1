from __future__ import annotations

import os
import pickle  # noqa: TID251
import time
from pathlib import Path

import pytest

from models.manifest import verify, write_manifest
from t2i.storage import (
    DataError,
    delete_file,
    delete_folder,
    fetch_directory,
    file_info,
    filesystem_for,
    list_files,
    list_folder,
    put_directory,
    read_path,
    write_file,
)
from t2i.storage.files import create_file


def fill(root: str, names: list[str]) -> None:
    filesystem, path = filesystem_for(root)
    for name in names:
        write_file(filesystem, f"{path}/{name}", name.encode())


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory has been fetched before: what an earlier run cached would never be asked of the store."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(params=["local", "s3", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":  # for any other file system of fsspec
        return f"memory://{tmp_path.name}"
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")


def test_files_of_a_folder_and_a_file(root: str) -> None:
    fill(root, ["set/b.tar", "set/a.tar", "set/sub/c.tar", "set/_skip.tar", "set/.hidden.tar", "set/a.txt"])

    def names(uri: str) -> list[str]:
        return [file.split("/set/")[1] for file in list_files(f"{root}/{uri}", ".tar")[1]]

    assert names("set") == ["a.tar", "b.tar", "sub/c.tar"]
    assert names("set/a.txt") == ["a.txt"]


def test_entries_say_what_is_there(root: str) -> None:
    began = time.time()
    fill(root, ["set/four", "set/sub/deep"])
    filesystem, path = filesystem_for(f"{root}/set")
    four, sub = list_folder(filesystem, path)
    assert (four.name, four.path, four.is_file, four.is_folder, four.size) == ("four", f"{path}/four", True, False, 8)
    assert four.modified is not None
    assert began - 5 < four.modified < time.time() + 5
    assert (sub.name, sub.is_file, sub.is_folder, sub.size) == ("sub", False, True, 0)
    assert file_info(filesystem, four.path) == four
    assert file_info(filesystem, sub.path).is_folder
    for missing in (f"{path}/none", f"{four.path}/below"):
        assert not file_info(filesystem, missing).exists
        assert list_folder(filesystem, missing) == []


def test_what_is_written_is_seen_at_once_and_by_others(root: str) -> None:
    """By another object for the same store, as another node has one; nothing is remembered."""
    fill(root, ["set/a"])
    filesystem, path = filesystem_for(f"{root}/set")
    other = pickle.loads(pickle.dumps(filesystem))
    for each in (filesystem, other):
        assert [entry.name for entry in list_folder(each, path)] == ["a"]
        assert file_info(each, f"{path}/a").size == 5
    write_file(filesystem, f"{path}/b", b"new")
    write_file(filesystem, f"{path}/a", b"changed")
    for each in (filesystem, other):
        assert [(entry.name, entry.size) for entry in list_folder(each, path)] == [("a", 7), ("b", 3)]
        assert read_path(each, f"{path}/a") == b"changed"
    delete_file(other, f"{path}/b")
    assert [entry.name for entry in list_folder(filesystem, path)] == ["a"]
    delete_file(filesystem, f"{path}/b")  # it is gone: nothing happens


def test_a_file_is_created_once(root: str) -> None:
    filesystem, path = filesystem_for(f"{root}/new/file")
    create_file(filesystem, path, b"first")
    create_file(filesystem, path, b"second")
    assert read_path(filesystem, path) == b"first"
    assert [entry.name for entry in list_folder(filesystem, path.rpartition("/")[0])] == ["file"]


def test_a_folder_is_deleted_by_exactly_its_name(root: str) -> None:
    fill(root, ["set [v2]/a", "set [v2]/deep/b", "set v/c", "set 2/d"])
    filesystem, path = filesystem_for(root)
    for _ in range(2):
        delete_folder(filesystem, f"{path}/set [v2]")
        assert [entry.name for entry in list_folder(filesystem, path)] == ["set 2", "set v"]


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


def test_a_cut_local_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Path) -> None:  # between writing and renaming
        raise KeyboardInterrupt

    filesystem, path = filesystem_for(tmp_path / "a")
    write_file(filesystem, path, b"old")
    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_file(filesystem, path, b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
