"""Read a list of captions to evaluate on, in the driver's memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

from models.captions import Captions, decode_text, find_captions
from t2i.data.captioned import (
    CAPTION_ID_FIELDS,
    IMAGE_FIELDS,
    TEXT_FIELDS,
    Caption,
    CaptionedImage,
    Row,
    check_ids,
    group_by_image,
    read_row,
    read_value,
)
from t2i.data.coco import parse_coco, read_json
from t2i.data.parquet_pairs import holds_images, open_parquet, read_columns
from t2i.data.readers import read_pairs
from t2i.data.skipped import record_captions
from t2i.data.source import SourceConfig, resolve_format
from t2i.data.tables import parse_table
from t2i.storage import DataError, read_file

COCO_LISTS = ("images", "annotations")


def read_captions(source: SourceConfig) -> list[Caption]:
    """Return the first caption of every image of ``source``.

    Raises:
        DataError: see :func:`read_captioned_images`.
    """
    return [image.one(0) for image in read_captioned_images(source)]


def read_captioned_images(source: SourceConfig) -> list[CaptionedImage]:
    """Return the images of ``source`` that have a caption, with all their captions.

    The source is captioned images (of a COCO JSON, the images need not be there) or a plain list: text (one caption a
    line), CSV, TSV or Parquet with a header (``uid,caption``, ``filename,text``), JSON or JSON lines with captions or
    objects, or a JSON object id -> captions. Rows about the same image are one image. Only ``webdataset`` needs Ray.
    Images without a usable caption are left out; what was dropped or mended is logged.

    Raises:
        DataError: the source cannot be read or has no captions, or two captions have the same id.
    """
    images = group_by_image(_READERS[_format(source)](source))
    problems = {image.image_id: image.problems for image in images if image.problems}
    if problems:
        record_captions(None, problems, len(images))
    captioned = [image for image in images if image.texts][: source.limit]
    if not captioned:
        raise DataError(f"path is {source.path!r}: it holds no caption.")
    check_ids(source.path, captioned)
    return captioned


def _format(source: SourceConfig) -> str:
    name = resolve_format(source)
    if name not in _READERS:
        raise DataError(f"format is {name!r}: it has images but no captions, so use {', '.join(_READERS)}.")
    return name


def _read_text(path: str) -> str:
    """Return the content of a text file in UTF-8 (or UTF-16 with a byte order mark), without the mark."""
    data = read_file(path)
    text = decode_text(data)
    if text is None:
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"path is {path!r}: it is not UTF-8 at byte {error.start}, so convert it.") from error
    return text or ""


def _from_text(source: SourceConfig) -> Iterator[Row]:
    """Yield every line that is not blank, under its number; only a line feed ends a line."""
    for number, line in enumerate(_read_text(source.path).split("\n"), start=1):
        if line.strip():
            yield Row(str(number), None, find_captions(line))


def _from_table(source: SourceConfig) -> Iterator[Row]:
    """Yield the rows of a CSV or TSV; a row without an id has its number."""
    rows = parse_table(source.path, _read_text(source.path))
    if rows and not rows[0].keys() & {*TEXT_FIELDS}:
        raise DataError(
            f"path is {source.path!r}: its header needs one of {', '.join(TEXT_FIELDS)}, and has {', '.join(rows[0])}."
        )
    yield from _records(rows)


def _from_json(source: SourceConfig) -> Iterable[Row]:
    document = _unwrapped(read_json(source.path))
    if isinstance(document, list):
        return _records(document)
    if isinstance(document, Mapping) and not _is_coco(document):
        return (read_value(value, str(name)) for name, value in document.items())
    return (Row(image.id, None, image.found) for image in parse_coco(source))


def _unwrapped(document: Any) -> Any:
    """Return the list in a JSON object that holds nothing else, as ``{"prompts": [...]}``; else the document itself.

    A list of texts under another name is that image's captions.
    """
    values = list(document.items()) if isinstance(document, Mapping) else []
    if len(values) != 1 or not isinstance(values[0][1], list):
        return document
    name, found = values[0]
    of_objects = any(isinstance(item, Mapping) for item in found) and name not in COCO_LISTS
    return found if of_objects or name.lower() in TEXT_FIELDS else document


def _is_coco(document: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is COCO's or Karpathy's, and no map of ids to captions."""
    lists = map(document.get, COCO_LISTS)
    return any(isinstance(value, list) and any(isinstance(item, Mapping) for item in value) for value in lists)


def _from_json_lines(source: SourceConfig) -> Iterator[Row]:
    for number, line in enumerate(_read_text(source.path).split("\n"), start=1):
        if line.strip():
            try:
                yield read_value(json.loads(line), str(number))
            except (ValueError, RecursionError) as error:
                raise DataError(f"path is {source.path!r}: line {number} is not JSON ({error}).") from error


def _records(records: Iterable[Any]) -> Iterator[Row]:
    """Yield rows, captions or objects with fields; one without an id has its number, from 1 on."""
    return (read_value(record, str(number)) for number, record in enumerate(records, start=1))


def _from_parquet(source: SourceConfig) -> Iterator[Row]:
    """Yield the rows of a Parquet source; beside images their ids are those that the reader of pairs gives."""
    if holds_images(source.path):
        batches = (batch for piece in open_parquet(source, with_images=False).pieces() for batch in piece.read())
        return (Row(*row) for batch in batches for row in zip(batch.ids, repeat(None), batch.captions, strict=False))
    names = {*TEXT_FIELDS, *IMAGE_FIELDS, *CAPTION_ID_FIELDS}
    found = read_columns(source.path, names, needed=TEXT_FIELDS)
    return (read_row(record, position) for position, record in found)


def _from_webdataset(source: SourceConfig) -> Iterator[Row]:
    for row in read_pairs(source).select_columns(["id", "captions"]).iter_rows():
        yield Row(row["id"], None, Captions(list(row["captions"])))


_READERS: dict[str, Callable[[SourceConfig], Iterable[Row]]] = {
    "text": _from_text,
    "table": _from_table,
    "jsonl": _from_json_lines,
    "coco": _from_json,
    "parquet": _from_parquet,
    "webdataset": _from_webdataset,
}
