"""An index -> columns in the driver's memory: 0.8 KB an image with three captions, and 2 E bytes more with a CLIP."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2i.curate.caption_filters import CAPTION_FILTERS, CaptionJudge, caption_key, count_letters
from t2i.curate.config import CaptionRules
from t2i.curate.index import read_index
from t2i.storage import DataError

KEPT = len(CAPTION_FILTERS)
"""The code of a caption that is kept; the others are places in ``CAPTION_FILTERS``."""


@dataclass(frozen=True)
class CaptionJudgements:
    """Judged captions of many images, all [C]: the image's place, filter's code, key, letters, and language."""

    image: np.ndarray
    code: np.ndarray
    key: np.ndarray
    letters: np.ndarray
    language: np.ndarray


@dataclass(frozen=True)
class ImageMeasurements:
    """Measured images in an order that depends on their ids alone, all [n] or [n, ...].

    ``digest`` is bytes, ``hash`` uint64, ``colours`` uint8 [n, 192], ``embedding`` float16 [n, E] or none.
    """

    id: np.ndarray
    problem: np.ndarray
    width: np.ndarray
    height: np.ndarray
    digest: np.ndarray
    hash: np.ndarray
    colours: np.ndarray
    embedding: np.ndarray | None

    def __len__(self) -> int:
        return len(self.id)

    def at(self, places: np.ndarray) -> ImageMeasurements:
        """Some of the images, in the order of ``places``."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[places] for name, column in columns.items() if column is not None})


def gather_images(directory: str, rules: CaptionRules) -> tuple[ImageMeasurements, CaptionJudgements]:
    """Read an index and judge its captions, which the workers do; sorted by id.

    Raises:
        DataError: the index is not whole, or an id comes twice in it.
    """
    judged = read_index(directory).map_batches(partial(judge_captions, rules=rules), batch_format="pyarrow")
    tables = [table for table in judged.iter_batches(batch_format="pyarrow", batch_size=None) if len(table)]
    table = pa.concat_tables(tables).sort_by("id").combine_chunks()
    images = _images(table)
    _check_unique(images.id)
    return images, _captions(table)


def gather_evaluation(directory: str, name: str) -> ImageMeasurements:
    """The readable images of an evaluation set's index, their ids behind ``name/``."""
    images, _ = gather_images(directory, CaptionRules(english=False, boilerplate=[]))
    readable = images.at(np.flatnonzero(images.problem == ""))
    return replace(readable, id=np.array([f"{name}/{id}" for id in readable.id], object))


def judge_captions(table: pa.Table, rules: CaptionRules) -> pa.Table:
    """Rows of an index -> the same with lists ``code``, ``key``, ``letters`` and ``language`` in place of captions."""
    judge, codes = CaptionJudge(rules), {"": KEPT} | {name: code for code, name in enumerate(CAPTION_FILTERS)}
    captions = table["captions"].to_pylist()
    judgements = [[judge.judge(caption) for caption in row] for row in captions]
    columns = {
        "code": pa.array([[codes[judged.reason] for judged in row] for row in judgements], pa.list_(pa.int8())),
        "key": pa.array([[caption_key(caption) for caption in row] for row in captions], pa.list_(pa.uint64())),
        "letters": pa.array([[count_letters(caption) for caption in row] for row in captions], pa.list_(pa.int32())),
        "language": pa.array([[judged.language for judged in row] for row in judgements], pa.list_(pa.string())),
    }
    table = table.drop_columns("captions")
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _images(table: pa.Table) -> ImageMeasurements:
    embedding = None
    if "embedding" in table.column_names:
        lists = _whole(table, "embedding")
        embedding = lists.flatten().to_numpy().reshape(len(table), lists.type.list_size)
    colours = np.frombuffer(b"".join(table["colours"].to_pylist()), np.uint8).reshape(len(table), -1)
    numbers = {name: _whole(table, name).to_numpy() for name in ("width", "height", "hash")}
    objects = {name: np.array(table[name].to_pylist(), object) for name in ("id", "problem", "digest")}
    return ImageMeasurements(**numbers, **objects, colours=colours, embedding=embedding)


def _captions(table: pa.Table) -> CaptionJudgements:
    image = pc.list_parent_indices(_whole(table, "code")).to_numpy()
    numbers = {name: pc.list_flatten(_whole(table, name)).to_numpy() for name in ("code", "key", "letters")}
    language = pc.list_flatten(_whole(table, "language")).to_numpy(zero_copy_only=False)
    return CaptionJudgements(image, **numbers, language=language)


def _whole(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _check_unique(ids: np.ndarray) -> None:
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if len(repeated):
        raise DataError(f"id {repeated[0]} comes twice in the source: make ids unique.")


def concatenate(sets: list[ImageMeasurements]) -> ImageMeasurements | None:
    """Several sets as one, or none."""
    if not sets:
        return None
    columns: dict[str, Any] = {}
    for field in fields(ImageMeasurements):
        parts = [getattr(images, field.name) for images in sets]
        columns[field.name] = None if parts[0] is None else np.concatenate(parts)
    return ImageMeasurements(**columns)
