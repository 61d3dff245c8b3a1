from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import ray

from t2i.data import load_columns
from t2i.data.tensors import tensor_column
from t2i.storage import DataError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def table(ids: list[str]) -> pa.Table:
    captions = [[f"{row_id} {i}" for i in range(int(row_id) % 3 + 1)] for row_id in ids]
    pixels = np.stack([np.full((4, 4, 3), int(row_id), np.uint8) for row_id in ids])
    return pa.table({"id": ids, "captions": captions}).append_column("pixels", tensor_column(pixels))


def test_rows_come_sorted_from_any_order() -> None:
    columns = load_columns(ray.data.from_arrow([table(["30", "10"]), table(["20"]), table(["11", "05"])]))
    assert columns["id"].tolist() == ["05", "10", "11", "20", "30"]
    assert columns["pixels"].shape == (5, 4, 4, 3)
    assert columns["pixels"].dtype == np.uint8
    assert columns["pixels"][:, 0, 0, 0].tolist() == [5, 10, 11, 20, 30]
    assert columns["captions"].tolist() == [
        ["05 0", "05 1", "05 2"],
        ["10 0", "10 1"],
        ["11 0", "11 1", "11 2"],
        ["20 0", "20 1", "20 2"],
        ["30 0"],
    ]


def test_captions_of_equal_number_stay_lists() -> None:
    columns = load_columns(ray.data.from_arrow(table(["1", "4"])))
    assert columns["captions"].shape == (2,)
    assert columns["captions"][0] == ["1 0", "1 1"]


def test_repeated_ids_are_refused() -> None:
    with pytest.raises(DataError, match="id 7 comes twice"):
        load_columns(ray.data.from_arrow([table(["7", "8"]), table(["7"])]))


def test_no_row_is_refused() -> None:
    with pytest.raises(DataError, match="has no usable row"):
        load_columns(ray.data.from_arrow(table(["7"])).filter(lambda _: False))
