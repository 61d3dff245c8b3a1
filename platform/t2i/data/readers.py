"""Read captioned images of any format as pairs: rows ``{"id": str, "image": bytes, "captions": list[str]}``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import ray
from ray.data import Dataset

from t2i.data.coco import open_coco, parse_coco
from t2i.data.image_folder import list_images, open_image_folder
from t2i.data.pairs import PairsDatasource, Piece
from t2i.data.parquet_pairs import open_parquet
from t2i.data.source import SourceConfig, resolve_format
from t2i.data.webdataset import open_webdataset, webdataset_ids
from t2i.storage import DataError


def read_pairs(source: SourceConfig, report_dir: str | None = None, need_captions: bool = True) -> Dataset:
    """Return the pairs of ``source`` as a lazy dataset, in the order of the source whatever Ray's scheduling.

    ``image`` is empty if the file is missing or unreadable, and ``captions`` if there is none;
    :func:`t2i.data.decode.decode_pairs` drops and reports such rows. Captions that are dropped or mended
    (:mod:`models.captions`) are logged, and listed in JSON files of ``report_dir``. Images alone are read only if no
    captions are needed.

    Raises:
        DataError: the source is missing, empty, truncated, or not of its format, or an id comes twice; this is checked
            before Ray is used.
    """
    datasource = PairsDatasource(_open(source, need_captions), report_dir)
    dataset: Dataset = ray.data.read_datasource(datasource)
    dataset.context.execution_options.preserve_order = True
    return dataset.limit(source.limit) if source.limit else dataset


def check_pairs(source: SourceConfig, need_captions: bool = True) -> None:
    """Check that :func:`read_pairs` can read ``source``, without Ray.

    Raises:
        DataError: see :func:`read_pairs`.
    """
    _open(source, need_captions)


def read_ids(source: SourceConfig) -> list[str]:
    """Return the ids of all images of ``source``, as :func:`read_pairs` gives them, without Ray and without the images.

    Raises:
        DataError: see :func:`read_pairs`; or the source has no images.
    """
    readers: dict[str, Callable[[SourceConfig], Iterable[str]]] = {
        "parquet": _parquet_ids,
        "coco": lambda source: (image.id for image in parse_coco(source)),
        "webdataset": webdataset_ids,
        "images": lambda source: (image.id for image in list_images(source)[2]),
    }
    name = resolve_format(source)
    if name not in readers:
        raise DataError(f"format is {name!r}: it has captions but no images, so use {', '.join(readers)}.")
    return list(islice(readers[name](source), source.limit))


def _parquet_ids(source: SourceConfig) -> Iterator[str]:
    pieces = open_parquet(source, with_images=False).pieces()
    return (row_id for piece in pieces for batch in piece.read() for row_id in batch.ids)


def _open(source: SourceConfig, need_captions: bool) -> list[Piece]:
    """Check ``source`` and return its pieces."""
    openers = {
        "parquet": lambda source: open_parquet(source).pieces(),
        "coco": open_coco,
        "webdataset": open_webdataset,
    }
    if not need_captions:
        openers["images"] = open_image_folder
    name = resolve_format(source)
    if name not in openers:
        lacks = "images but no captions" if name == "images" else "captions but no images"
        raise DataError(f"format is {name!r}: it has {lacks}, so use {', '.join(openers)}.")
    return openers[name](source)
