"""Read COCO-captions JSON: the official layout (2014 and 2017) or Karpathy's ``dataset_coco.json``."""

from __future__ import annotations

import json
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem

from models.captions import find_captions
from t2i.data.ids import id_text
from t2i.data.image_pieces import ImageFile, image_pieces
from t2i.data.pairs import Piece
from t2i.data.source import SourceConfig
from t2i.logs import get_logger
from t2i.storage import DataError, Entry, as_data_error, filesystem_for, list_folder, read_file

NAMED = 3
"""Missing files that the log names."""


def parse_coco(source: SourceConfig) -> list[ImageFile]:
    """Return the images that a JSON lists, in its order, with their captions.

    An image whose entry is there twice comes once, and a file that two ids have once with the captions of both. Images
    without a file name and captions of images that are not listed are left out, with a warning.

    Raises:
        DataError: the file is not JSON, has neither layout or no captions, or does not have the split; or two files
            have the same id.
    """
    document = read_json(source.path)
    try:
        listed = [image for image in document["images"] if image is not None]
        is_karpathy = any("sentences" in image for image in listed)
        named = _karpathy(listed, source) if is_karpathy else _official(document, listed, source)
        images = _merge(named, source.path)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"path is {source.path!r}: it is no COCO-captions JSON ({error!r}), "
            "so name a captions_*.json or dataset_coco.json."
        ) from error
    if not any(image.captions for image in images):
        raise DataError(f"path is {source.path!r}: it has images but no captions, so name the captions_*.json file.")
    return images[: source.limit]


def read_json(path: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: the file is missing or not JSON.
    """
    try:
        return json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"path is {path!r}: it is not JSON ({error}).") from error


Listed = tuple[str | None, list[Any]]
"""An image of the JSON: its file, None if it has no name, and the values that hold its captions."""


def _official(document: Any, listed: list[Any], source: SourceConfig) -> list[Listed]:
    """Read the official layout: ``images`` and, in any order, ``annotations`` that name them."""
    if source.split is not None:
        raise DataError(f"split is {source.split!r}: only a Karpathy JSON has splits, so leave it empty.")
    captions: dict[str | None, list[Any]] = defaultdict(list)
    for annotation in document["annotations"]:
        if annotation is not None and "caption" in annotation:
            captions[_key(annotation.get("image_id"))].append(annotation["caption"])
    unknown = {*captions} - {_key(image["id"]) for image in listed}
    if unknown:
        count = sum(len(captions[key]) for key in unknown)
        example = next(iter(unknown))
        _warn(f"{source.path}: captions of images that it does not list are left out: {count}, such as of {example}.")
    entries = dict.fromkeys((_key(image["id"]), _file(image)) for image in listed)
    return [(file, captions[key]) for key, file in entries]


def _key(value: Any) -> str | None:
    """Return an image's id in the JSON as text; ``"000000391895"`` is 391895."""
    text = id_text(value)
    return text.lstrip("0") or "0" if text and text.isdecimal() else text


def _karpathy(listed: list[Any], source: SourceConfig) -> list[Listed]:
    """Read Karpathy's layout: ``images`` of all splits that hold their captions; ``train`` includes ``restval``."""
    splits = sorted({image["split"] for image in listed if image.get("split")})
    if source.split not in splits:
        raise DataError(f"split is {source.split!r}: {source.path} has {', '.join(splits)}, so set it to one of them.")
    wanted = {"train", "restval"} if source.split == "train" else {source.split}
    entries = [
        (_file(image), [sentence["raw"] for sentence in image.get("sentences") or []])
        for image in listed
        if image.get("split") in wanted
    ]
    return list({json.dumps(entry): entry for entry in entries}.values())


def _file(image: Any) -> str | None:
    """Return an image's path in the image folder, with ``/``; of a URL or an absolute path only the last name."""
    names = (image.get("file_name"), image.get("filename"), image.get("coco_url"))
    name = next((name for name in names if isinstance(name, str) and name.strip()), None)
    if name is None:
        return None
    name = posixpath.join(image.get("filepath") or "", name.strip().replace("\\", "/"))
    is_elsewhere = "://" in name or name.startswith("/")
    return id_text(posixpath.basename(urlsplit(name).path) if is_elsewhere else posixpath.normpath(name))


def _merge(listed: list[Listed], path: str) -> list[ImageFile]:
    """Return the images that have a file name, each once.

    Raises:
        DataError: two of their files differ in the suffix alone, so that their ids would be equal.
    """
    captions: dict[str, list[Any]] = {}
    for file, values in listed:
        if file is not None:
            captions.setdefault(file, []).extend(values)
    if nameless := sum(file is None for file, _ in listed):
        _warn(f"{path}: {nameless} of {len(listed)} images left out, as they have no file_name.")
    images = [ImageFile(_id(file), file, find_captions(values)) for file, values in captions.items()]
    row_id, count = Counter(image.id for image in images).most_common(1)[0] if images else ("", 0)
    if count > 1:
        raise DataError(f"path is {path!r}: {count} of its files have the id {row_id}, so give them other names.")
    return images


def _id(file: str) -> str:
    return str(PurePosixPath(file).with_suffix(""))


@cache
def _warn(message: str) -> None:
    """Log a message once: a job checks its sources and then reads them."""
    get_logger("data").warning("%s", message)


def open_coco(source: SourceConfig) -> list[Piece]:
    """Return the images of a source in pieces of a few images.

    Raises:
        DataError: see :func:`parse_coco` and :func:`find_images`.
    """
    images = parse_coco(source)
    filesystem, folder = find_images(source, images)
    return image_pieces(filesystem, folder, images)


def find_images(source: SourceConfig, images: Sequence[ImageFile]) -> tuple[AbstractFileSystem, str]:
    """Return the file system and folder of the images: ``source.images``, or one of the usual folders beside the JSON.

    How many are missing is logged, with a few names.

    Raises:
        DataError: none of the images is in any of them.
    """
    folders = [source.images] if source.images else _usual_folders(source.path)
    for folder in folders:
        filesystem, path = filesystem_for(folder)
        with as_data_error(folder):
            present = _files_in(filesystem, path, {posixpath.dirname(image.file) for image in images})
        missing = [image.file for image in images if image.file not in present]
        if len(missing) < len(images):
            if missing:
                few = ", ".join(missing[:NAMED])
                _warn(f"{folder}: {len(missing)} of {len(images)} images are missing and skipped, such as {few}.")
            return filesystem, path
    raise DataError(
        f"images is {source.images!r}: the files that {source.path} names are not in {' or '.join(folders)}, "
        "so set it to their folder."
    )


def _files_in(filesystem: AbstractFileSystem, root: str, folders: Iterable[str]) -> set[str]:
    """Return the files directly in some folders below ``root``, as paths from there; each folder is listed once."""

    def list_one(folder: str) -> list[Entry]:
        return list_folder(filesystem, posixpath.join(root, folder) if folder else root)

    with ThreadPoolExecutor(8) as pool:
        listed = zip(folders, pool.map(list_one, folders), strict=True)
        return {posixpath.join(folder, info.name) for folder, infos in listed for info in infos if info.is_file}


def _usual_folders(path: str) -> list[str]:
    """Return the folders to look in: for ``a/annotations/captions_val2017.json``, first ``a/val2017``."""
    here, _, name = path.rpartition("/")
    here = here or "."
    parent = here.rpartition("/")[0]
    above = parent if "://" in parent else f"{here}/.."  # a store has no ".."
    split = name.removesuffix(".json").removeprefix("captions_")
    return [f"{above}/{split}", f"{here}/{split}", f"{here}/images", here]
