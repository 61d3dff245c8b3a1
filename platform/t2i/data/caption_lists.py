"""Read a list of captions to evaluate on, in the driver's memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from models.captions import CAPTION_FIELDS, Captions, decode_text, find_captions, first_good
from t2i.data.coco import parse_coco, read_json
from t2i.data.ids import id_text
from t2i.data.parquet_pairs import open_parquet
from t2i.data.readers import read_pairs
from t2i.data.skipped import record_captions
from t2i.data.source import SourceConfig, resolve_format
from t2i.storage import DataError, read_file

ID_COLUMNS = ("id", "uid", "image_id", "filename", "file_name")
TEXT_COLUMNS = (*CAPTION_FIELDS, "prompt")

Found = Iterable[tuple[str, Captions]]
"""Ids with what is found under them, in order."""


@dataclass(frozen=True)
class Caption:
    """One caption to draw. ``id`` is that of the image it describes, or the line number in a text file."""

    id: str
    text: str
    image_id: str = ""


def read_captions(source: SourceConfig) -> list[Caption]:
    """Return one caption for every image of ``source``: the first, where there are several.

    The source is captioned images (of a COCO JSON, the images need not be there) or a plain list: text (one caption a
    line), CSV or TSV with a header (``uid,caption``, ``filename,text``), or a JSON object id -> caption. Only
    ``webdataset`` needs Ray. Images without a usable caption are left out; what was dropped or mended is logged.

    Raises:
        DataError: the source cannot be read or has no captions, or an id is repeated.
    """
    readers = {
        "text": _from_text,
        "table": _from_table,
        "coco": _from_json,
        "parquet": _from_parquet,
        "webdataset": _from_webdataset,
    }
    found = list(readers[resolve_format(source)](source))
    problems = {row_id: _problems(captions) for row_id, captions in found}
    if any(problems.values()):
        record_captions(None, {row_id: some for row_id, some in problems.items() if some}, len(found))
    captions = [Caption(row_id, captions.texts[0], row_id) for row_id, captions in found if captions.texts][
        : source.limit
    ]
    _check(source.path, captions)
    return captions


def _problems(captions: Captions) -> list[str]:
    return captions.problems or ([] if captions.texts else ["there is no caption"])


def _check(path: str, captions: list[Caption]) -> None:
    """Raise DataError for an empty list or a repeated id."""
    if not captions:
        raise DataError(f"path is {path!r}: it holds no caption.")
    seen: set[str] = set()
    for caption in captions:
        if caption.id in seen:
            raise DataError(f"path is {path!r}: id {caption.id} comes twice, so make ids unique.")
        seen.add(caption.id)


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


def _from_text(source: SourceConfig) -> Found:
    """Yield every line that is not blank, under its number; only a line feed ends a line."""
    for number, line in enumerate(_read_text(source.path).split("\n"), start=1):
        if line.strip():
            yield str(number), find_captions(line)


def _from_table(source: SourceConfig) -> Found:
    """Yield the captions of a CSV or TSV; a row without an id has its number.

    Raises:
        DataError: the header has no id or caption, or a row is not well-formed.
    """
    delimiter = "\t" if source.path.endswith(".tsv") else ","
    rows = csv.DictReader(io.StringIO(_read_text(source.path), newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        names = list(rows.fieldnames or [])
        id_name, text_names = _columns(source.path, names)
        for number, row in enumerate(rows, start=1):
            if None in row:
                raise DataError(
                    f"path is {source.path!r}: row {number} has more fields than the header, "
                    "so put captions with commas in quotation marks."
                )
            yield _without_suffix(row[id_name] or str(number)), first_good(row[name] for name in text_names)
    except csv.Error as error:
        raise DataError(
            f"path is {source.path!r}: after row {number} it is no table ({error}), so check its quotation marks."
        ) from error


def _columns(path: str, names: list[str]) -> tuple[str, list[str]]:
    """Return the column of ids and those of captions; the case of their names does not matter."""
    known = {name.strip().lower(): name for name in reversed(names)}
    ids = [known[name] for name in ID_COLUMNS if name in known]
    texts = [known[name] for name in TEXT_COLUMNS if name in known]
    if not ids or not texts:
        raise DataError(f"path is {path!r}: its header needs an id and a caption, and has {', '.join(names)}.")
    return ids[0], texts


def _without_suffix(name: str) -> str:
    """Return a file name without its image suffix, which is the id that the readers of pairs give the image."""
    is_image = PurePosixPath(name).suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    return name.rpartition(".")[0] if is_image else name


def _from_json(source: SourceConfig) -> Found:
    document = read_json(source.path)
    if isinstance(document, dict) and not any(_holds_objects(value) for value in document.values()):
        yield from ((id_text(name) or "", find_captions(value)) for name, value in document.items())
    else:
        yield from ((image.id, image.found) for image in parse_coco(source))


def _holds_objects(value: Any) -> bool:
    """Return whether a JSON value is an object or a list of them, and so no caption."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))


def _from_parquet(source: SourceConfig) -> Found:
    for piece in open_parquet(source, with_images=False).pieces():
        for batch in piece.read():
            yield from zip(batch.ids, batch.captions, strict=True)


def _from_webdataset(source: SourceConfig) -> Found:
    for row in read_pairs(source).select_columns(["id", "captions"]).iter_rows():
        yield row["id"], Captions(list(row["captions"]))
