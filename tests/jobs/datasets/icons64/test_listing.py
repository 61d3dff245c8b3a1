from __future__ import annotations

from pathlib import Path

from icons64.listing import LIST, Listed, counts, differences, read_list, write_list

ROWS = [Listed("b/owl", "train", b"2" * 16), Listed("a/axe", "val", b"1" * 16)]


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_list(ROWS, tmp_path / "list.parquet")
    assert read_list(tmp_path / "list.parquet") == {row.id: row for row in ROWS}
    assert list(read_list(tmp_path / "list.parquet")) == ["a/axe", "b/owl"]


def test_what_differs_from_the_list_is_named() -> None:
    listed = {row.id: row for row in ROWS}
    assert differences(listed, {row.id: row.pixels for row in ROWS}) == []
    assert differences(listed, {"b/owl": b"3" * 16}) == [
        "1 listed drawings are not there: a/axe.",
        "1 drawings have other pixels: b/owl.",
    ]


def test_the_list_that_is_shipped_is_small_and_has_enough_of_both_parts() -> None:
    assert LIST.stat().st_size < 3e6
    found = counts(read_list())
    assert found["train"] >= 39_000
    assert found["val"] == 1_000
