"""Image bytes and captions -> pixels and captions; what cannot be used is counted and named."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from t2i.data.storage import absolute, filesystem_for, write_file
from t2i.data.tensors import tensor_column
from t2i.data.transforms import ImageError, decode_image
from t2i.logs import get_logger

ROWS_PER_BATCH = 128


def decode_pairs(dataset: Dataset, image_size: int, report_path: str | None = None) -> Dataset:
    """Turn ``image`` into ``pixels``, uint8 [image_size, image_size, 3], by ``transforms.decode_image``.

    Rows whose image cannot be used or that have no caption are dropped. While the dataset is being consumed,
    each is named with its reason in the JSON file ``report_path`` and their count is logged as a warning.
    Errors are caught per row because Ray's ``max_errored_blocks`` would drop the whole block.
    """
    report = SkipReport.new(report_path)
    decode = partial(_decode_batch, image_size=image_size, report=report)
    return dataset.map_batches(decode, batch_size=ROWS_PER_BATCH, batch_format="pyarrow")


@dataclass(frozen=True)
class SkipReport:
    """Where workers send what they skip: an actor beside the driver, made by the first that has something to say."""

    path: str | None
    node: str
    actor: str

    @classmethod
    def new(cls, path: str | None) -> SkipReport:
        """An empty report, written at once."""
        path = path and absolute(path)
        write_report(path, {})
        return cls(path, ray.get_runtime_context().get_node_id(), f"skipped-{uuid4()}")

    def add(self, reasons: dict[str, str]) -> None:
        """Note id -> reason of skipped rows; they are in the report when this returns."""
        here = NodeAffinitySchedulingStrategy(self.node, soft=False)
        options = {"name": self.actor, "get_if_exists": True, "num_cpus": 0, "scheduling_strategy": here}
        actor: Any = ray.remote(SkippedRows).options(**options).remote(self.path)
        ray.get(actor.add.remote(reasons))


def write_report(path: str | None, reasons: dict[str, str]) -> None:
    """Write which rows were skipped (id -> reason) and how many, if a path is given."""
    if path is None:
        return
    skipped = [{"id": id, "reason": reason} for id, reason in sorted(reasons.items())]
    report = {"count": len(skipped), "skipped": skipped}
    write_file(*filesystem_for(path), json.dumps(report, indent=2).encode())


class SkippedRows:
    """The rows that were dropped, gathered from all workers."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._reasons: dict[str, str] = {}

    def add(self, reasons: dict[str, str]) -> None:
        """Note id -> reason of further rows, which may come again when a task is retried."""
        self._reasons |= reasons
        write_report(self._path, self._reasons)
        id, reason = next(iter(reasons.items()))
        get_logger("data").warning("%d rows skipped so far, the latest %s: %s.", len(self._reasons), id, reason)


def _decode_batch(table: pa.Table, image_size: int, report: SkipReport) -> pa.Table:
    pixels = np.empty((len(table), image_size, image_size, 3), np.uint8)
    reasons: dict[int, str] = {}
    for row, (image, captions) in enumerate(zip(table["image"], table["captions"], strict=True)):
        try:
            pixels[row] = _decode_row(image.as_py(), captions.as_py(), image_size)
        except ImageError as error:
            reasons[row] = str(error)
    if reasons:
        report.add({table["id"][row].as_py(): reason for row, reason in reasons.items()})
    kept = np.setdiff1d(np.arange(len(table)), list(reasons))
    return table.select(["id", "captions"]).take(kept).append_column("pixels", tensor_column(pixels[kept]))


def _decode_row(image: bytes, captions: list[str], image_size: int) -> np.ndarray:
    if not captions:
        raise ImageError("it has no caption")
    return decode_image(image, image_size)
