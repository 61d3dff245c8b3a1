"""A whole data set in the memory of one training worker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ray.data import DataIterator, Dataset

from t2i.data.packed_images import pack_images
from t2i.storage import DataError


def to_columns(dataset: Dataset | DataIterator) -> dict[str, np.ndarray]:
    """Gather all rows as column name -> array over rows, sorted by ``id`` so that scheduling does not matter.

    ``captions`` becomes an object array of lists of str; tensors keep their shape ([rows, ...]) and dtype; ``image``,
    encoded images, is packed (:mod:`t2i.data.packed_images`).

    Raises:
        DataError: there is no row, or an id comes twice.
    """
    batches = [batch for batch in dataset.iter_batches(batch_format="numpy") if len(batch["id"])]
    if not batches:
        raise DataError("the data set has no usable row: see the report of skipped rows.")
    ids = np.concatenate([batch["id"] for batch in batches]).astype(str)
    order = np.argsort(ids, kind="stable")
    _check_unique(ids[order])
    columns = {name: np.concatenate([batch.pop(name) for batch in batches])[order] for name in list(batches[0])}
    columns["id"] = ids[order]
    columns["captions"] = caption_lists(columns["captions"])
    return {**columns, **pack_images(columns["image"].tolist())} if "image" in columns else columns


def _check_unique(ids: np.ndarray) -> None:
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if len(repeated):
        raise DataError(f"id {repeated[0]} comes twice in the data set: make ids unique.")


def caption_lists(captions: Sequence[Sequence[str]] | np.ndarray) -> np.ndarray:
    """Captions of each row -> an object array of lists of str [n]."""
    lists = np.empty(len(captions), dtype=object)
    lists[:] = [list(row) for row in captions]
    return lists
