"""Lists of captions for evaluation, read by the driver."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow.dataset as pads

from models.captions import CaptionError, check_caption
from t2i.data.coco import parse_coco, read_json
from t2i.data.readers import as_captions, caption_column, parquet_columns, read_pairs
from t2i.data.source import SourceConfig, resolve_format
from t2i.storage import DataError, list_files, read_file

ID_COLUMNS = ("id", "uid", "image_id", "filename", "file_name")
TEXT_COLUMNS = ("caption", "captions", "text", "prompt")


@dataclass(frozen=True)
class Caption:
    """One caption to draw, under the id of the image it describes (a line number where there is none)."""

    id: str
    text: str


def read_captions(source: SourceConfig) -> list[Caption]:
    """The first caption of every row of a pair format, of a COCO JSON without its images, or of a plain list.

    Plain lists: text (one caption a line), CSV or TSV with a header (``uid,caption``, ``filename,text``), or
    a JSON object id -> caption. Only ``webdataset`` needs Ray.

    Raises:
        DataError: the source cannot be read, has no captions, repeats an id, or a caption cannot be encoded.
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


def _without_suffix(id: str) -> str:
    """A file name without its image suffix, as the pair readers name the same image."""
    return id.rpartition(".")[0] if PurePosixPath(id).suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") else id


def _from_json(source: SourceConfig) -> Iterator[Caption]:
    document = read_json(source.path)
    if isinstance(document, dict) and all(isinstance(value, str) for value in document.values()):
        yield from (Caption(id, text.strip()) for id, text in document.items())
    else:
        yield from (Caption(image.id, image.captions[0]) for image in parse_coco(source) if image.captions)


def _from_parquet(source: SourceConfig) -> Iterator[Caption]:
    filesystem, files = list_files(source.path, ".parquet")
    column = caption_column(source.path, parquet_columns(filesystem, files))
    table = pads.dataset(files, filesystem=filesystem).to_table(columns=["id", column])
    for row in table.to_pylist():
        yield from (Caption(str(row["id"]), text) for text in as_captions(row[column])[:1])


def _from_webdataset(source: SourceConfig) -> Iterator[Caption]:
    for row in read_pairs(source).select_columns(["id", "captions"]).iter_rows():
        yield from (Caption(row["id"], text) for text in row["captions"][:1])
