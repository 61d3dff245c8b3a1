"""Read a folder of image files without captions, such as the real images that drawn ones are compared with."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from fsspec import AbstractFileSystem

from models.captions import Captions
from t2i.data.image_pieces import ImageFile, image_pieces
from t2i.data.pairs import Piece
from t2i.data.source import SUFFIXES, SourceConfig
from t2i.storage import DataError, list_files


def open_image_folder(source: SourceConfig) -> list[Piece]:
    """Return the image files of a folder or glob, in the order of their names, in pieces of a few.

    Raises:
        DataError: see :func:`list_images`.
    """
    return image_pieces(*list_images(source))


def list_images(source: SourceConfig) -> tuple[AbstractFileSystem, str, list[ImageFile]]:
    """Return the file system, the folder that all images share, and the images; the id of each is its path there.

    Raises:
        DataError: there are none, or two have the same id, as they differ in the suffix alone.
    """
    filesystem, files = list_files(source.path, "")
    found = [PurePosixPath(file) for file in files if file.lower().endswith(SUFFIXES["images"])]
    if not found:
        raise DataError(f"path is {source.path!r}: it holds no image files ({', '.join(SUFFIXES['images'])}).")
    folder = _shared_folder(found)
    images = [_image(file.relative_to(folder)) for file in found][: source.limit]
    name, count = Counter(image.id for image in images).most_common(1)[0]
    if count > 1:
        raise DataError(f"path is {source.path!r}: {count} of its files have the id {name}, so give them other names.")
    return filesystem, str(folder), images


def _image(file: PurePosixPath) -> ImageFile:
    return ImageFile(str(file.with_suffix("")), str(file), Captions())


def _shared_folder(files: list[PurePosixPath]) -> PurePosixPath:
    """Return the deepest folder that holds all files."""
    folder = files[0].parent
    while not all(file.is_relative_to(folder) for file in files):
        folder = folder.parent
    return folder
