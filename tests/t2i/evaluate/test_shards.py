from __future__ import annotations

from pathlib import Path

import pytest

from t2i.evaluate.shards import ShardFolder
from t2i.storage import DataError


@pytest.fixture
def folder(tmp_path: Path) -> ShardFolder:
    return ShardFolder(f"{tmp_path}/shards", ".bin")


def test_a_shard_is_done_when_its_record_is_there(folder: ShardFolder, tmp_path: Path) -> None:
    assert folder.done() == set()
    folder.write(3, b"content", {"images": 2})
    (tmp_path / "shards" / "00004.bin").write_bytes(b"a writer was killed before the record")
    assert folder.done() == {3}
    assert folder.read(3) == b"content"
    assert folder.record(3)["images"] == 2


def test_the_same_content_has_the_same_record(folder: ShardFolder, tmp_path: Path) -> None:
    folder.write(0, b"content", {"images": 2})
    first = (tmp_path / "shards" / "00000.json").read_bytes()
    folder.write(0, b"content", {"images": 2})
    assert (tmp_path / "shards" / "00000.json").read_bytes() == first


def test_a_damaged_shard_is_refused_by_name(folder: ShardFolder, tmp_path: Path) -> None:
    folder.write(0, b"content", {})
    (tmp_path / "shards" / "00000.bin").write_bytes(b"contenT")
    with pytest.raises(DataError, match=r"00000\.bin is damaged: delete its record, the \.json beside it"):
        folder.read(0)
