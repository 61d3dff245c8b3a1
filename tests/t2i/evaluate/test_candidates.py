from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from t2i.data import Caption
from t2i.evaluate.candidates import SCHEMA, finished_ids, from_png, read_candidates, store_candidates, to_png
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.work_list import IncompleteEvaluationError, WorkList, make_work_list


def rows(caption_id: str, scores: list[float]) -> list[dict[str, Any]]:
    """Candidates of one caption; candidate i is an image of grey value i."""
    order = np.argsort(-np.array(scores)).tolist()
    return [
        {
            "id": caption_id,
            "caption": f"caption of {caption_id}",
            "candidate": candidate,
            "seed": 1,
            "truncated": caption_id == "b",
            "image_tokens": [0, 1, 2, 3],
            "image": to_png(np.full((4, 4, 3), candidate, np.uint8)),
            "score": scores[candidate],
            "rank": place,
            "caption_feature": [1.0, float(len(caption_id))],
        }
        for place, candidate in enumerate(order)
    ]


@pytest.fixture
def work_list() -> WorkList:
    return make_work_list([Caption("b", "x", "b"), Caption("a", "y", "a")], EvaluateConfig(candidates=3), {})


def test_what_is_stored_comes_back_in_the_work_lists_order_best_first(tmp_path: Path, work_list: WorkList) -> None:
    for caption_id, scores in (("a", [0.1, 0.3, 0.2]), ("b", [0.5, 0.4, 0.6])):
        store_candidates(pa.Table.from_pylist(rows(caption_id, scores), SCHEMA), tmp_path)
    candidates = read_candidates(tmp_path, work_list)
    assert candidates.ids == ["b", "a"]
    np.testing.assert_allclose(candidates.scores, [[0.6, 0.5, 0.4], [0.3, 0.2, 0.1]])
    assert candidates.truncated == 1
    assert candidates.images(["a"])["a"][:, 0, 0, 0].tolist() == [1, 2, 0]


def test_a_caption_without_results_is_never_summarised(tmp_path: Path, work_list: WorkList) -> None:
    store_candidates(pa.Table.from_pylist(rows("a", [0.1, 0.2, 0.3]), SCHEMA), tmp_path)
    with pytest.raises(IncompleteEvaluationError, match="first: b"):
        read_candidates(tmp_path, work_list)


def test_a_retried_batch_is_not_counted_twice_and_a_partial_file_not_at_all(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(rows("a", [0.1, 0.2, 0.3]), SCHEMA)
    store_candidates(table, tmp_path)
    store_candidates(table, tmp_path)
    (tmp_path / "0123.parquet.abcd.part").write_bytes(b"PAR1 and then the machine went away")
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert finished_ids(tmp_path) == {"a"}


def test_nothing_is_finished_at_first(tmp_path: Path) -> None:
    assert finished_ids(tmp_path) == set()


def test_png_keeps_every_value() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(from_png(to_png(image)), image)
