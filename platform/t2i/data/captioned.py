"""The captions of one image with their ids, as lists of captions give them: an image a row, or a caption a row."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from models.captions import CAPTION_FIELDS, Captions, find_captions, first_good
from t2i.data.ids import id_text
from t2i.data.source import SUFFIXES
from t2i.storage import DataError

FILE_FIELDS = ("file_name", "filename", "image", "coco_url", "url")
"""Fields that name an image file, whose id is the name without suffix, as for readers of pairs."""
IMAGE_FIELDS = ("image_id", "img_id", "cocoid", *FILE_FIELDS)
"""Fields that say which image a caption describes, in the order in which they are tried."""
CAPTION_ID_FIELDS = ("id", "uid", "caption_id", "sentid", "key")
"""Fields with the id of a caption; where nothing says which image it describes, they stand for the image."""
TEXT_FIELDS = (*CAPTION_FIELDS, "prompt", "prompts", "raw")


@dataclass(frozen=True)
class Caption:
    """One caption to draw: a unique ``id``, its text, and the image it describes.

    ``id`` is that which the list gives the caption; else ``image_id`` where one caption of an image is taken, and
    ``<image_id>/<k>``, k from 0, where several are. The ``image_id`` of a plain prompt is its row number.
    """

    id: str
    text: str
    image_id: str


@dataclass(frozen=True)
class Row:
    """One row of a list: the image it is about, the id of its caption (None if it has none), and what was found."""

    image_id: str
    caption_id: str | None
    found: Captions


@dataclass
class CaptionedImage:
    """An image's captions that can be used, in order, the id of each if it has one, and what was dropped or mended."""

    image_id: str
    texts: list[str] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add the captions of a row about this image."""
        several = len(row.found.texts) > 1
        ids = [f"{row.caption_id}/{k}" if several else row.caption_id for k in range(len(row.found.texts))]
        self.ids += ids if row.caption_id is not None else [None] * len(ids)
        self.texts += row.found.texts
        self.problems += row.found.problems or ([] if row.found.texts else ["there is no caption"])

    def one(self, k: int) -> Caption:
        """Return caption ``k`` as the only one of its image."""
        return Caption(self.ids[k] or self.image_id, self.texts[k], self.image_id)

    def all(self) -> list[Caption]:
        """Return all captions."""
        if len(self.texts) == 1:
            return [self.one(0)]
        numbered = enumerate(zip(self.ids, self.texts, strict=True))
        return [Caption(row_id or f"{self.image_id}/{k}", text, self.image_id) for k, (row_id, text) in numbered]


def read_row(record: Mapping[str, Any], position: str) -> Row:
    """Return a row of a table or a JSON object; without an id it has that of its ``position``.

    The case of names does not matter. With the id of an image and one of its own, as in MLPerf's list, the caption has
    both; with one of them, that stands for the image.
    """
    values = {str(name).strip().lower(): value for name, value in reversed([*record.items()])}
    image_id = next(filter(None, (_image_id(name, values.get(name)) for name in IMAGE_FIELDS)), None)
    caption_id = next(filter(None, (_plain_id(values.get(name)) for name in CAPTION_ID_FIELDS)), None)
    found = first_good(values.get(name) for name in TEXT_FIELDS)
    return Row(image_id or caption_id or position, caption_id if image_id else None, found)


def read_value(value: Any, position: str) -> Row:
    """Return what JSON holds under an id or at a position: a caption, a list of them, or an object with fields."""
    return read_row(value, position) if isinstance(value, Mapping) else Row(position, None, find_captions(value))


def group_by_image(rows: Iterable[Row]) -> list[CaptionedImage]:
    """Return the images that rows are about, in the order of their first rows."""
    images: dict[str, CaptionedImage] = {}
    for row in rows:
        images.setdefault(row.image_id, CaptionedImage(row.image_id)).add(row)
    return list(images.values())


def check_ids(path: str, images: Iterable[CaptionedImage]) -> None:
    """Check that the ids of all captions differ.

    Raises:
        DataError: names one that comes twice.
    """
    counts = Counter(caption.id for image in images for caption in image.all())
    row_id, count = counts.most_common(1)[0] if counts else ("", 0)
    if count > 1:
        raise DataError(f"path is {path!r}: id {row_id} comes twice, so make the ids of captions unique.")


def _image_id(name: str, value: Any) -> str | None:
    if name not in FILE_FIELDS:
        return _plain_id(value)
    return file_id(value) if isinstance(value, str) and value else None  # a field "image" may hold the image itself


def _plain_id(value: Any) -> str | None:
    """Return an id as text; None if there is none, as in an empty field."""
    return None if isinstance(value, Mapping | list) else id_text(value) or None


def file_id(name: str) -> str:
    """Return the id of an image by its file: the path in its folder, of a URL the last name, without image suffix."""
    name = posixpath.basename(name.partition("?")[0]) if "://" in name else name.replace("\\", "/")
    return str(PurePosixPath(name).with_suffix("")) if name.lower().endswith(SUFFIXES["images"]) else name
