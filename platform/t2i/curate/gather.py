"""Load the measurements of an index into the driver's memory, as columns.

An image with three captions takes 0.8 KB, and with a CLIP of embedding width F another 2 F bytes.
"""

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

KEPT = len(CAPTION_FILTERS)
"""The code of a caption that is kept; other codes are positions in ``CAPTION_FILTERS``."""


@dataclass(frozen=True)
class CaptionJudgements:
    """The captions of many images as judged one by one; every field has one entry per caption, [C].

    ``image`` is the row of the caption's image in :class:`ImageMeasurements`; ``code`` is :data:`KEPT` or the position
    in ``CAPTION_FILTERS`` of the filter that drops it; ``key`` (uint64) is equal for repeated captions
    (:func:`.caption_filters.caption_key`); ``letters`` is the number of letters, ``language`` a language code or ``?``.
    """

    image: np.ndarray
    code: np.ndarray
    key: np.ndarray
    letters: np.ndarray
    language: np.ndarray


@dataclass(frozen=True)
class ImageMeasurements:
    """The measurements of n images in the order of their ids; every field has one entry per image, [n] or [n, ...].

    ``id``, ``problem`` and ``digest`` are objects (str, str, bytes), ``width`` and ``height`` int32, ``hash`` uint64,
    ``colours`` uint8 [n, 192], ``embedding`` float16 [n, F], or None without a CLIP. See ``INDEX_SCHEMA`` in
    :mod:`.index`.
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

    def at(self, rows: np.ndarray) -> ImageMeasurements:
        """Return the measurements of the images at ``rows``, in that order."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[rows] for name, column in columns.items() if column is not None})


def gather_images(directory: str, rules: CaptionRules) -> tuple[ImageMeasurements, CaptionJudgements]:
    """Load an index, sorted by id; workers judge its captions on the way.

    Raises:
        DataError: the index is not complete.
    """
    judged = read_index(directory).map_batches(partial(judge_captions, rules=rules), batch_format="pyarrow")
    tables = [table for table in judged.iter_batches(batch_format="pyarrow", batch_size=None) if len(table)]
    table = pa.concat_tables(tables).sort_by("id").combine_chunks()
    return _image_measurements(table), _caption_judgements(table)


def gather_evaluation(directory: str, name: str) -> ImageMeasurements:
    """Load the readable images of an evaluation set's index; their ids become ``<name>/<id>``."""
    images, _ = gather_images(directory, CaptionRules(english=False, boilerplate=[]))
    readable = images.at(np.flatnonzero(images.problem == ""))
    return replace(readable, id=np.array([f"{name}/{image_id}" for image_id in readable.id], object))


def judge_captions(table: pa.Table, rules: CaptionRules) -> pa.Table:
    """Replace the captions of index rows by lists of their ``code``, ``key``, ``letters`` and ``language``."""
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


def _image_measurements(table: pa.Table) -> ImageMeasurements:
    embedding = None
    if "embedding" in table.column_names:
        lists = _one_array(table, "embedding")
        embedding = lists.flatten().to_numpy().reshape(len(table), lists.type.list_size)
    colours = np.frombuffer(b"".join(table["colours"].to_pylist()), np.uint8).reshape(len(table), -1)
    numbers = {name: _one_array(table, name).to_numpy() for name in ("width", "height", "hash")}
    objects = {name: np.array(table[name].to_pylist(), object) for name in ("id", "problem", "digest")}
    return ImageMeasurements(**numbers, **objects, colours=colours, embedding=embedding)


def _caption_judgements(table: pa.Table) -> CaptionJudgements:
    image = pc.list_parent_indices(_one_array(table, "code")).to_numpy()
    numbers = {name: pc.list_flatten(_one_array(table, name)).to_numpy() for name in ("code", "key", "letters")}
    language = pc.list_flatten(_one_array(table, "language")).to_numpy(zero_copy_only=False)
    return CaptionJudgements(image, **numbers, language=language)


def _one_array(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one array, without chunks."""
    column = table[name].combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def concatenate(sets: list[ImageMeasurements]) -> ImageMeasurements | None:
    """Return the images of several sets as one; None if there is no set."""
    if not sets:
        return None
    columns: dict[str, Any] = {}
    for field in fields(ImageMeasurements):
        arrays = [getattr(images, field.name) for images in sets]
        columns[field.name] = None if arrays[0] is None else np.concatenate(arrays)
    return ImageMeasurements(**columns)
