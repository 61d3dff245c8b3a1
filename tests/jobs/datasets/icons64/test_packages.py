from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from icons64.packages import EMOJIBASE, check_hash, unpacked

NPM = """#!/bin/sh
cp {archive} "$5/emojibase-data-17.0.0.tgz"
echo '[{{"filename": "emojibase-data-17.0.0.tgz"}}]'
"""


@pytest.fixture
def fake_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``npm`` that packs another archive than the one that was published."""
    archive = tmp_path / "other.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(__file__, "package/data.json")
    script = tmp_path / "bin" / "npm"
    script.parent.mkdir()
    script.write_text(NPM.format(archive=archive))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return archive


@pytest.mark.usefixtures("fake_npm")
def test_an_archive_that_is_not_the_one_of_this_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"is not the emojibase-data@17.0.0 that icons64 was made of .* delete it"):
        unpacked(EMOJIBASE, tmp_path / "packages")


def test_an_unpacked_package_is_not_fetched_again(
    fake_npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icons64.packages.check_hash", lambda *_: None)
    folder = unpacked(EMOJIBASE, tmp_path / "packages")
    assert (folder / "data.json").read_bytes() == Path(__file__).read_bytes()
    fake_npm.unlink()
    assert unpacked(EMOJIBASE, tmp_path / "packages") == folder


def test_an_archive_is_checked_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(b"")
    with pytest.raises(SystemExit, match="SHA-512 z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg"):
        check_hash(EMOJIBASE, tmp_path / "a.tgz")


def test_without_npm_the_build_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"emojibase-data@17.0.0 cannot be fetched .* install npm"):
        unpacked(EMOJIBASE, tmp_path / "packages")
