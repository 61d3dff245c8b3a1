"""Read images that are files of their own, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from fsspec import AbstractFileSystem

from models.captions import Captions
from t2i.data.pairs import ROWS_PER_BATCH, PairBatch, Piece
from t2i.storage import is_transient, read_path

IMAGE_BYTES = 150_000
"""About the size of an image of COCO, by which Ray plans the reading."""


@dataclass(frozen=True)
class ImageFile:
    """An image in a folder: its file (a path in the folder), id (``file`` without suffix) and captions."""

    id: str
    file: str
    found: Captions

    @property
    def captions(self) -> list[str]:
        """The captions that can be used."""
        return self.found.texts


def image_pieces(filesystem: AbstractFileSystem, folder: str, images: Sequence[ImageFile]) -> list[Piece]:
    """Return images of a folder in pieces of a few; a file that is missing or unreadable gives no image."""
    batches = [images[start : start + ROWS_PER_BATCH] for start in range(0, len(images), ROWS_PER_BATCH)]
    return [Piece(partial(_read, filesystem, folder, batch), len(batch), len(batch) * IMAGE_BYTES) for batch in batches]


def _read(filesystem: AbstractFileSystem, folder: str, images: Sequence[ImageFile]) -> Iterator[PairBatch]:
    files = [f"{folder}/{image.file}" for image in images]
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(partial(_bytes_or_none, filesystem), files))
    yield PairBatch([image.id for image in images], contents, [image.found for image in images])


def _bytes_or_none(filesystem: AbstractFileSystem, file: str) -> bytes | None:
    """Return the content of a file, or None if it is missing or unreadable; raise if the store does not answer."""
    try:
        return read_path(filesystem, file)
    except OSError as error:
        if is_transient(error):
            raise
        return None
