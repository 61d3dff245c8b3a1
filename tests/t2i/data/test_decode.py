from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from t2i.data import SourceConfig, decode_pairs, decode_views, read_pairs
from t2i.data.transforms import decode_image

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
Row = dict[str, Any]


def test_bad_rows_are_named_and_the_rest_survive(
    tmp_path: Path, rows: list[Row], write: dict[str, Callable[..., Path]]
) -> None:
    good = [row for i, row in enumerate(rows) if i not in (1, 2, 4)]
    expected = {row["id"]: decode_image(row["image"], 16) for row in good}
    rows[1]["image"] = b"not an image"
    rows[2]["image"] = b""
    rows[4]["captions"] = ["  "]
    source = SourceConfig(path=str(write["parquet"](rows, tmp_path / "set")))
    report = tmp_path / "unreadable"
    decoded = decode_pairs(read_pairs(source), 16, str(report)).take_all()
    assert [row["id"] for row in decoded] == list(expected)
    assert all(np.array_equal(row["pixels"], expected[row["id"]]) for row in decoded)
    assert [list(row["captions"]) for row in decoded] == [row["captions"] for row in good]
    (part,) = report.iterdir()
    written = json.loads(part.read_text())
    assert written["count"] == 3
    reasons = {row["id"]: row["reason"] for row in written["skipped"]}
    assert list(reasons) == [rows[i]["id"] for i in (1, 2, 4)]
    assert reasons[rows[1]["id"]].startswith("it is no image of a known format")
    assert reasons[rows[2]["id"]] == "it has no bytes: the file is missing or empty"
    assert reasons[rows[4]["id"]] == "it has no caption"


def test_a_clean_set_leaves_no_report_not_even_an_older_one(
    tmp_path: Path, rows: list[Row], write: dict[str, Callable[..., Path]]
) -> None:
    source = SourceConfig(path=str(write["parquet"](rows, tmp_path / "set")))
    report = tmp_path / "unreadable"
    report.mkdir()
    (report / "stale.json").touch()
    assert decode_pairs(read_pairs(source), 16, str(report)).count() == len(rows)
    assert not report.exists()


def test_the_embedded_set_decodes_untouched(tmp_path: Path) -> None:
    path = Path(__file__).parents[3] / "jobs" / "datasets" / "emoji64" / "val.parquet"
    report = tmp_path / "unreadable"
    decoded = decode_pairs(read_pairs(SourceConfig(path=str(path))), 64, str(report)).take_all()
    shipped = pq.read_table(path).to_pylist()
    assert [row["id"] for row in decoded] == [row["id"] for row in shipped]
    assert len(decoded) == 866
    for row, original in zip(decoded, shipped, strict=True):
        assert np.array_equal(row["pixels"], np.asarray(Image.open(io.BytesIO(original["image"])).convert("RGB")))
    assert not report.exists()


def test_views_of_drawings_begin_with_the_image_and_mirror_only_what_may_be(tmp_path: Path) -> None:
    half = np.full((16, 16, 3), 255, np.uint8)
    half[:, :8] = 0
    buffer = io.BytesIO()
    Image.fromarray(half).save(buffer, "PNG")
    names = ["a half", "the left half"]
    rows = [{"id": name, "image": buffer.getvalue(), "captions": [name]} for name in names]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    pairs = read_pairs(SourceConfig(path=f"{tmp_path}/pairs.parquet"))
    decoded = {row["id"]: row["pixels"] for row in decode_views(pairs, 16, "drawings", 40, seed=0).take_all()}
    assert sorted(decoded) == sorted(f"{name}#{view}" for name in names for view in range(40))
    for name in names:
        assert np.array_equal(decoded[f"{name}#0"], half)
        black_right = [decoded[f"{name}#{view}"][8, -1, 0] < 128 for view in range(40)]
        assert any(black_right) == (name == "a half")
