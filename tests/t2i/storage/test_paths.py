"""What people write for a path, and which files it means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fsspec.registry import known_implementations

from t2i.storage import DataError, filesystem_for, list_files, read_file, write_file

LITERAL = [
    "a b",
    "a#c",
    "%41",
    "set [v2]",
    "[ab]",
    "what?",
    "*",
    "**",
    "~",
    "-x",
    "ü",
    "a'b\"c",
    "a::b",
    "a&b=c;d",
]


@pytest.fixture(params=["local", "s3", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")


def fill(root: str, *names: str) -> None:
    for name in names:
        filesystem, path = filesystem_for(f"{root}/{name}")
        write_file(filesystem, path, name.encode())


def found(root: str, pattern: str) -> list[str]:
    """The files that ``pattern`` names, as what :func:`fill` has written into them."""
    filesystem, files = list_files(f"{root}/{pattern}", ".tar")
    return sorted(filesystem.cat_file(file).decode() for file in files)


def test_every_name_names_what_has_it(root: str) -> None:
    """Beside each folder are others that its name matches as a glob or as an address."""
    fill(root, *(f"{name}/x.tar" for name in (*LITERAL, "A", "set v", "set 2", "a", "b", "whats", "%2541", "a b#c")))
    for name in LITERAL:
        assert found(root, name) == [f"{name}/x.tar"]
        assert found(root, f"{name}/x.tar") == [f"{name}/x.tar"]
        assert found(root, f"{name}/*.tar") == [f"{name}/x.tar"]
        assert read_file(f"{root}/{name}/x.tar") == f"{name}/x.tar".encode()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.tar", ["a.tar", "b.tar"]),
        ("?.tar", ["a.tar", "b.tar"]),
        ("[!a].tar", ["b.tar"]),
        ("*/*.tar", ["one/c.tar", "two [2]/d.tar"]),
        ("one/**/*.tar", ["one/c.tar", "one/deep/er/e.tar"]),
        ("**/[de].tar", ["one/deep/er/e.tar", "two [2]/d.tar"]),
        ("**", ["a.tar", "b.tar", "one/c.tar", "one/deep/er/e.tar", "two [2]/d.tar"]),
        ("two [2]/*.tar", ["two [2]/d.tar"]),
        ("one/", ["one/c.tar", "one/deep/er/e.tar"]),
    ],
)
def test_a_glob_means_the_same_everywhere(root: str, pattern: str, names: list[str]) -> None:
    fill(root, "a.tar", "b.tar", "one/c.tar", "one/deep/er/e.tar", "two [2]/d.tar", "one/_skip.tar", "a.txt")
    assert found(root, pattern) == names


def test_a_glob_that_matches_nothing_says_so(root: str) -> None:
    fill(root, "a.tar")
    with pytest.raises(DataError, match=r"x\*': it holds nothing that ends in \.tar\.$"):
        list_files(f"{root}/x*", ".tar")
    with pytest.raises(DataError, match=r"write \*\* alone between slashes"):
        list_files(f"{root}/x**/*.tar", ".tar")


def test_suffixes_in_capitals_count(root: str) -> None:
    fill(root, "set/a.TAR", "set/b.tar", "set/c.Tar.gz")
    assert found(root, "set") == ["set/a.TAR", "set/b.tar"]


def test_links_are_followed(tmp_path: Path) -> None:
    fill(str(tmp_path / "elsewhere"), "a.tar", "deep/b.tar")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/c.tar").symlink_to(tmp_path / "elsewhere/a.tar")
    (tmp_path / "set/folder").symlink_to(tmp_path / "elsewhere/deep")
    assert found(str(tmp_path), "set") == ["a.tar", "deep/b.tar"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/x y", "{home}/x y"),
        ("a/b", "{here}/a/b"),
        ("file:///a/b", "/a/b"),
        ("file://localhost/a", "/a"),
        ("file:///a%20b", "/a b"),
        ("FILE:///a", "/a"),
        ("a://b", None),
        ("/a/s3://b", "/a/s3:/b"),
    ],
)
def test_local_paths_become_absolute(
    text: str, path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/my/home")
    monkeypatch.chdir(tmp_path)
    if path is None:
        with pytest.raises(DataError, match="use a local path, s3://"):
            filesystem_for(text)
    else:
        assert filesystem_for(text)[1] == path.format(home="/my/home", here=tmp_path)


def test_a_file_named_like_a_uri_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~", "a%20b"):
        (tmp_path / name).mkdir()
    assert filesystem_for("~")[1] == str(tmp_path / "~")
    assert filesystem_for(f"file://{tmp_path}/a%20b")[1] == f"{tmp_path}/a%20b"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://bucket/a b#c/x%41?.parquet", "bucket/a b#c/x%41?.parquet"),
        ("S3://bucket/a/", "bucket/a"),
        ("s3a://bucket", "bucket"),
        ("s3://bucket/a/../b/./c", "bucket/b/c"),
        ("s3://bucket/../x", "bucket/x"),
        ("https://host/a b#c?d=e", "https://host/a b%23c?d=e"),
    ],
)
def test_the_path_in_a_store_is_what_was_written(uri: str, path: str) -> None:
    assert filesystem_for(uri)[1] == path


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("", r"^path is '': name a file, a folder or a glob\.$"),
        ("a\0b", r"^path is 'a\\x00b': name a file, a folder or a glob\.$"),
        ("nosuch://b/x", r"^path is 'nosuch://b/x': use a local path, s3://, gs://, .*https://, or what else fsspec"),
        ("zip://a.zip", r"^path is 'zip://a\.zip': use a local path"),
        (
            "far://b/x",
            r"^path is 'far://b/x': far:// needs a package not installed here: pip install far_away\.$",
        ),
        ("s3:/bucket/x", r"^path is 's3:/bucket/x': write two slashes, as in s3://\.$"),
        ("s3://", r"^path is 's3://': name one bucket, as in s3://bucket/folder\.$"),
        ("s3://buck*/x", r"^path is 's3://buck\*/x': name one bucket"),
        ("file://a/b", r"^path is 'file://a/b': write file:/// and an absolute path, or the path alone\.$"),
        (
            "s3://key:hidden@bucket/x",
            r"^path is s3://\.\.\. with a password in it: give credentials by variables or files\.$",
        ),
        ("https://me:hidden@host/x", r"^path is https://\.\.\. with a password in it"),
    ],
)
def test_what_cannot_be_a_path_is_refused_in_a_sentence(
    uri: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(known_implementations, "far", {"class": "far_away.FarFileSystem", "err": "Install far_away"})
    with pytest.raises(DataError, match=sentence) as raised:
        filesystem_for(uri)
    assert "hidden" not in str(raised.value)


def test_a_path_with_bytes_that_are_no_text_is_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.tar")
    fill(str(tmp_path), "a.tar")
    (tmp_path / "a.tar").rename(tmp_path / name)
    assert read_file(tmp_path / name) == b"a.tar"
