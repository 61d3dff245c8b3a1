"""Load a whole data set into memory, as columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ray.data import DataIterator, Dataset

from t2i.data.packed_images import pack_images
from t2i.storage import DataError


def load_columns(dataset: Dataset | DataIterator) -> dict[str, np.ndarray]:
    """Return all rows as arrays by column name, sorted by ``id`` so that they do not depend on Ray's scheduling.

    Tensors become arrays [n, ...] of their dtype, ``captions`` an object array [n] of lists of str, and encoded images
    (``image``) are packed into ``image`` and ``image_ends`` (:func:`t2i.data.packed_images.pack_images`).

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
    columns["captions"] = caption_array(columns["captions"])
    return {**columns, **pack_images(columns["image"].tolist())} if "image" in columns else columns


def _check_unique(ids: np.ndarray) -> None:
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if len(repeated):
        raise DataError(f"id {repeated[0]} comes twice in the data set: make ids unique.")


def caption_array(captions: Sequence[Sequence[str]] | np.ndarray) -> np.ndarray:
    """Return the captions of n rows as an object array [n] of lists of str."""
    lists = np.empty(len(captions), dtype=object)  # np.array() would make equally long lists a second dimension
    lists[:] = [list(row) for row in captions]
    return lists
