"""Find the columns with ids, images and captions in Parquet files, by their names and types."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.types as pat

from models.captions import CAPTION_FIELDS
from t2i.storage import DataError

ID_COLUMNS = ("id", "key")
IMAGE_COLUMNS = ("image", "jpg", "png", "webp")


@dataclass(frozen=True)
class PairColumns:
    """The names of the columns that are read: id and image, None if there is none, and all that hold captions."""

    id: str | None
    image: str | None
    captions: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """All of the columns."""
        return [name for name in (self.id, self.image, *self.captions) if name is not None]


def choose_columns(file: str, schema: pa.Schema, with_images: bool) -> PairColumns:
    """Return the columns of a file that are read, by their names (whose case does not matter) and types.

    Raises:
        DataError: there is no column for images, unless they are not wanted, or none for captions.
    """
    fields: dict[str, pa.Field] = {}
    for field in schema:
        fields.setdefault(field.name.lower(), field)
    row_id = next((fields[name].name for name in ID_COLUMNS if name in fields and not is_nested(fields[name])), None)
    images = _usable(file, fields, IMAGE_COLUMNS, is_image, "the bytes of image files") if with_images else []
    captions = _usable(file, fields, CAPTION_FIELDS, is_text, "text or lists of text")
    return PairColumns(row_id, images[0] if images else None, tuple(captions))


def choose_named(file: str, schema: pa.Schema, names: Collection[str], needed: Collection[str]) -> list[str]:
    """Return the columns of a file that have one of ``names``, in whatever case.

    Raises:
        DataError: none of them is in ``needed``, or none of those holds text.
    """
    fields = {field.name.lower(): field for field in reversed(list(schema))}
    _usable(file, fields, tuple(needed), is_text, "text or lists of text")
    return [field.name for name, field in fields.items() if name in names]


def has_images(schema: pa.Schema) -> bool:
    """Return whether a file holds images."""
    return any(field.name.lower() in IMAGE_COLUMNS and is_image(field.type) for field in schema)


def _usable(
    file: str, fields: dict[str, pa.Field], known: tuple[str, ...], is_right: Callable[[pa.DataType], bool], need: str
) -> list[str]:
    """Return the names of the columns that have one of the ``known`` names and the right type, in that order.

    Raises:
        DataError: there is none.
    """
    present = [fields[name] for name in known if name in fields]
    usable = [field.name for field in present if is_right(field.type)]
    if present and not usable:
        raise DataError(f"path is {file!r}: column {present[0].name} is {present[0].type}, and has to hold {need}.")
    if not usable:
        names = ", ".join(field.name for field in fields.values())
        raise DataError(f"path is {file!r}: it has no column {', '.join(known)}, only {names}.")
    return usable


def is_nested(field: pa.Field) -> bool:
    """Return whether a column holds lists, structs or maps."""
    return bool(pat.is_nested(field.type))


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a column holds bytes."""
    kinds = (pat.is_binary, pat.is_large_binary, pat.is_binary_view, pat.is_fixed_size_binary, pat.is_null)
    return any(is_kind(kind) for is_kind in kinds)


def is_image(kind: pa.DataType) -> bool:
    """Return whether a column holds image files: bytes, or as Hugging Face writes them, structs with ``bytes``."""
    in_struct = pat.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return is_bytes(kind.field("bytes").type if in_struct else kind)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column holds text, as strings or bytes, or lists of it."""
    if pat.is_dictionary(kind) or pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind):
        return is_text(kind.value_type)
    return is_bytes(kind) or any(is_kind(kind) for is_kind in (pat.is_string, pat.is_large_string, pat.is_string_view))


def check_alike(files: tuple[str, ...], columns: list[PairColumns]) -> None:
    """Check that all files have the columns that are read of the first; others do not matter.

    Raises:
        DataError: one has not.
    """
    for file, found in zip(files, columns, strict=True):
        if found != columns[0]:
            first, names = PurePosixPath(files[0]).name, ", ".join(columns[0].names)
            raise DataError(
                f"path is {file!r}: its columns {', '.join(found.names)} are not those of {first}, {names}, "
                "so rename them or read one file at a time."
            )
