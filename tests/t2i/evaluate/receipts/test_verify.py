"""What a receipt says comes out again, wherever the evaluation lies; what somebody has changed is found and named."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t2i.evaluate.candidates import from_png, to_png
from t2i.evaluate.receipts.stored import UnusableReceiptError, read_receipt
from t2i.evaluate.receipts.verify import verify
from t2i.evaluate.reference import write_reference
from t2i.storage import DataError
from tests.t2i.evaluate.receipts.small_evaluation import EXTRACTOR, evaluate

pytestmark = pytest.mark.ray

FEATURES = "val/features/0badcafe/drawn/00001.npz"
STATISTICS = "val/statistics/0badcafe/best-r0.npz"
REAL = "val/images/real/attempt-1/part-1.parquet"


def problems(receipt: Path) -> dict[str, str]:
    findings = list(verify(read_receipt(str(receipt))))
    return {finding.name: finding.problem for finding in findings if finding.problem}


def edit(receipt: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(receipt.read_text())
    change(document)
    receipt.write_text(json.dumps(document))


def accept(receipt: Path, file: str) -> None:
    """Put the hash that a file has now into the receipt."""
    sha256 = hashlib.sha256((receipt.parent / file).read_bytes()).hexdigest()
    edit(receipt, lambda document: document["files"].update({file: sha256}))


def double(file: Path, array: str) -> None:
    """Multiply one array of an .npz file by two."""
    arrays = dict(np.load(file))
    arrays[array] = arrays[array] * 2
    with file.open("wb") as target:
        np.savez(target, allow_pickle=False, **arrays)


def test_all_is_equal_in_a_folder_that_was_moved(receipt: Path) -> None:
    findings = list(verify(read_receipt(str(receipt))))
    assert [finding for finding in findings if finding.problem] == []
    names = [finding.name for finding in findings]
    assert {FEATURES, STATISTICS, "val: captions", "val: Merkle root of best"} <= set(names)
    assert "val: fd_small of best against real" in names
    assert "val: images of real, 34 stored ones" in names


def test_a_changed_figure_is_named_with_the_difference(receipt: Path) -> None:
    def lower(document: dict[str, Any]) -> None:
        (figure,) = [f for f in document["sets"][0]["figures"] if (f["metric"], f["subject"]) == ("fd_small", "first")]
        figure["value"] -= 0.25

    edit(receipt, lower)
    (found,) = problems(receipt).items()
    assert found[0] == "val: fd_small of first against real"
    assert found[1].endswith(", +0.25")


def test_a_changed_interval_and_a_figure_left_out_are_named(receipt: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        figures = document["sets"][0]["figures"]
        del figures[1]
        figures[0]["interval"]["high"] += 1.0

    edit(receipt, change)
    assert problems(receipt) == {
        "val: clip_score of best against captions": "another interval",
        "val: clip_cosine of best against captions": "is not in the receipt",
    }


def test_a_changed_statistic_is_named_even_if_its_hash_is_changed_too(receipt: Path) -> None:
    double(receipt.parent / STATISTICS, "mu")
    found = problems(receipt)
    assert found[STATISTICS] == "has other bytes than it had"
    assert found["val: figures"].startswith("not recomputed")
    accept(receipt, STATISTICS)
    found = problems(receipt)
    assert {"val: statistics of best from features", "val: fd_small of best against real"} <= set(found)


def test_a_changed_feature_is_named_even_if_its_hash_is_changed_too(receipt: Path) -> None:
    double(receipt.parent / FEATURES, "best/features-r0")
    assert problems(receipt)[FEATURES] == "has other bytes than it had"
    accept(receipt, FEATURES)
    assert "val: statistics of best from features" in problems(receipt)


def test_a_changed_real_image_is_named(receipt: Path) -> None:
    table = pq.read_table(receipt.parent / REAL)
    pngs = table["image"].to_pylist()
    pixels = from_png(pngs[5]).copy()
    pixels[0, 0, 0] ^= 1
    pngs[5] = to_png(pixels)
    pq.write_table(pa.table({"id": table["id"], "image": pngs}), receipt.parent / REAL)
    assert set(problems(receipt)) == {REAL, "val: image i05 of real"}


def test_a_changed_drawn_image_is_named(receipt: Path) -> None:
    file = receipt.parent / "val/candidates/00001.parquet"
    tables = [pq.ParquetFile(io.BytesIO(file.read_bytes())).read_row_group(index) for index in range(17)]
    rows = tables[0].to_pylist()
    rows[0]["image"] = to_png(from_png(rows[0]["image"]) // 2)
    tables[0] = pa.Table.from_pylist(rows, tables[0].schema)
    with pq.ParquetWriter(file, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    assert set(problems(receipt)) == {"val/candidates/00001.parquet", "val: image c17 of best"}


def test_a_changed_caption_is_named(receipt: Path) -> None:
    captions = receipt.parent / "val/captions.csv"
    captions.write_text(captions.read_text().replace("number 7", "number 8"))
    assert set(problems(receipt)) == {"val/captions.csv", "val: captions"}


def test_a_missing_file_is_named(receipt: Path) -> None:
    (receipt.parent / FEATURES).unlink()
    found = problems(receipt)
    assert found[FEATURES].startswith("cannot be read (")
    assert set(found) == {FEATURES, "val: figures"}


def test_a_reference_file_is_found_where_it_lies_now_and_a_changed_one_is_named(
    evaluated: Path, tiny_run: Path, tmp_path: Path
) -> None:
    real = read_receipt(str(evaluated)).sets[0].images["real"]
    before, now = f"{tmp_path}/reference.npz", f"{tmp_path}/moved.npz"
    write_reference(real, EXTRACTOR, [0.0], {}, before)
    receipt = read_receipt(str(evaluate(tmp_path / "eval", tiny_run, before)))
    Path(before).rename(now)
    assert [finding for finding in verify(receipt, now) if finding.problem] == []
    double(Path(now), "mu")
    found = {finding.name: finding.problem for finding in verify(receipt, now) if finding.problem}
    assert found["val: reference"] == "has other bytes than it had"
    assert "val: fd_small of best against real" in found


def test_another_package_list_is_named(receipt: Path) -> None:
    edit(receipt, lambda document: document["packages"]["list"].append("numpy==0.0"))
    assert set(problems(receipt)) == {"packages"}


def test_what_is_no_receipt_is_refused(receipt: Path) -> None:
    edit(receipt, lambda document: document.update(format=99))
    with pytest.raises(UnusableReceiptError, match="of format 99, and this code reads 1: use the code"):
        read_receipt(str(receipt))
    with pytest.raises(DataError, match=r"nowhere\.json"):
        read_receipt(f"{receipt.parent}/nowhere.json")
    receipt.write_text("[]")
    with pytest.raises(UnusableReceiptError, match=r"which is none: name the receipt\.json"):
        read_receipt(str(receipt))
