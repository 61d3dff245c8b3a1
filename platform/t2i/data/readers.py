"""Read captioned images of any format as pairs: rows ``{"id": str, "image": bytes, "captions": list[str]}``."""

from __future__ import annotations

import ray
from ray.data import Dataset

from t2i.data.coco import open_coco
from t2i.data.pairs import PairsDatasource, Piece
from t2i.data.parquet_pairs import open_parquet
from t2i.data.source import SourceConfig, resolve_format
from t2i.data.webdataset import open_webdataset
from t2i.storage import DataError


def read_pairs(source: SourceConfig, report_dir: str | None = None) -> Dataset:
    """Return the pairs of ``source`` as a lazy dataset, in the order of the source whatever Ray's scheduling.

    ``image`` is empty if the file is missing or unreadable, and ``captions`` if there is none;
    :func:`t2i.data.decode.decode_pairs` drops and reports such rows. Captions that are dropped or mended
    (:mod:`models.captions`) are logged, and listed in JSON files of ``report_dir``.

    Raises:
        DataError: the source is missing, empty, truncated, or not of its format, or an id comes twice; this is checked
            before Ray is used.
    """
    datasource = PairsDatasource(_open(source), report_dir)
    dataset: Dataset = ray.data.read_datasource(datasource)
    dataset.context.execution_options.preserve_order = True
    return dataset.limit(source.limit) if source.limit else dataset


def check_pairs(source: SourceConfig) -> None:
    """Check that :func:`read_pairs` can read ``source``, without Ray.

    Raises:
        DataError: see :func:`read_pairs`.
    """
    _open(source)


def _open(source: SourceConfig) -> list[Piece]:
    """Check ``source`` and return its pieces."""
    openers = {
        "parquet": lambda source: open_parquet(source).pieces(),
        "coco": open_coco,
        "webdataset": open_webdataset,
    }
    name = resolve_format(source)
    if name not in openers:
        raise DataError(f"format is {name!r}: it has captions but no images, so use {', '.join(openers)}.")
    return openers[name](source)
