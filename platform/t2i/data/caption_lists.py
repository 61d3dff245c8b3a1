"""Read a list of captions to evaluate on, in the driver's memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow.dataset as pads

from models.captions import CaptionError, check_caption
from t2i.data.coco import parse_coco, read_json
from t2i.data.readers import caption_column, non_blank_captions, parquet_columns, read_pairs
from t2i.data.source import SourceConfig, resolve_format
from t2i.storage import DataError, arrow_filesystem, list_files, read_file

ID_COLUMNS = ("id", "uid", "image_id", "filename", "file_name")
TEXT_COLUMNS = ("caption", "captions", "text", "prompt")


@dataclass(frozen=True)
class Caption:
    """One caption to draw. ``id`` is that of the image it describes, or the line number in a text file."""

    id: str
    text: str


def read_captions(source: SourceConfig) -> list[Caption]:
    """Return one caption for every image of ``source``: the first, where there are several.

    The source is captioned images (of a COCO JSON, the images need not be there) or a plain list: text (one caption a
    line), CSV or TSV with a header (``uid,caption``, ``filename,text``), or a JSON object id -> caption. Only
    ``webdataset`` needs Ray.

    Raises:
        DataError: the source cannot be read or has no captions, an id is repeated, or a caption is not usable.
    """
    readers = {
        "text": _from_text,
        "table": _from_table,
        "coco": _from_json,
        "parquet": _from_parquet,
        "webdataset": _from_webdataset,
    }
    captions = list(readers[resolve_format(source)](source))[: source.limit]
    _check(source.path, captions)
    return captions


def _check(path: str, captions: list[Caption]) -> None:
    """Raise DataError for an empty list, a repeated id or a caption that no model can encode."""
    if not captions:
        raise DataError(f"path is {path!r}: it holds no caption.")
    seen: set[str] = set()
    for caption in captions:
        if caption.id in seen:
            raise DataError(f"path is {path!r}: id {caption.id} comes twice, so make ids unique.")
        seen.add(caption.id)
        try:
            check_caption(caption.text)
        except CaptionError as error:
            raise DataError(f"path is {path!r}: row {caption.id}: {error}") from error


def _lines(path: str) -> list[str]:
    """Return the lines of a UTF-8 file, without its byte order mark."""
    try:
        return read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"path is {path!r}: it is not UTF-8 at byte {error.start}, so convert it.") from error


def _from_text(source: SourceConfig) -> Iterator[Caption]:
    for number, line in enumerate(_lines(source.path), start=1):
        if line.strip():
            yield Caption(str(number), line.strip())


def _from_table(source: SourceConfig) -> Iterator[Caption]:
    delimiter = "\t" if source.path.endswith(".tsv") else ","
    rows = csv.DictReader(io.StringIO("\n".join(_lines(source.path))), delimiter=delimiter)
    names = rows.fieldnames or []
    id_name = next((name for name in ID_COLUMNS if name in names), None)
    text_name = next((name for name in TEXT_COLUMNS if name in names), None)
    if id_name is None or text_name is None:
        raise DataError(f"path is {source.path!r}: its header needs an id and a caption, and has {', '.join(names)}.")
    for row in rows:
        yield Caption(_without_suffix(row[id_name] or ""), (row[text_name] or "").strip())


def _without_suffix(name: str) -> str:
    """Return a file name without its image suffix, which is the id that the readers of pairs give the image."""
    is_image = PurePosixPath(name).suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    return name.rpartition(".")[0] if is_image else name


def _from_json(source: SourceConfig) -> Iterator[Caption]:
    document = read_json(source.path)
    if isinstance(document, dict) and all(isinstance(value, str) for value in document.values()):
        yield from (Caption(image_id, text.strip()) for image_id, text in document.items())
    else:
        yield from (Caption(image.id, image.captions[0]) for image in parse_coco(source) if image.captions)


def _from_parquet(source: SourceConfig) -> Iterator[Caption]:
    filesystem, files = list_files(source.path, ".parquet")
    column = caption_column(source.path, parquet_columns(filesystem, files))
    table = pads.dataset(files, filesystem=arrow_filesystem(filesystem)).to_table(columns=["id", column])
    for row in table.to_pylist():
        yield from (Caption(str(row["id"]), text) for text in non_blank_captions(row[column])[:1])


def _from_webdataset(source: SourceConfig) -> Iterator[Caption]:
    for row in read_pairs(source).select_columns(["id", "captions"]).iter_rows():
        yield from (Caption(row["id"], text) for text in row["captions"][:1])
