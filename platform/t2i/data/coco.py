"""Read COCO-captions JSON: the official layout (2014 and 2017) or Karpathy's ``dataset_coco.json``."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem

from t2i.data.source import SourceConfig
from t2i.storage import DataError, file_info, filesystem_for, read_file


@dataclass(frozen=True)
class CocoImage:
    """One image of the JSON: its file (a path in the image folder), id (``file`` without suffix) and captions."""

    id: str
    file: str
    captions: list[str]


def parse_coco(source: SourceConfig) -> list[CocoImage]:
    """Return the images that a JSON lists, in its order, with their captions.

    Raises:
        DataError: the file is not JSON, has neither layout or no captions, or does not have the split.
    """
    document = read_json(source.path)
    try:
        is_karpathy = "sentences" in document["images"][0]
        images = _karpathy(document, source) if is_karpathy else _official(document, source)
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
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"path is {path!r}: it is not JSON ({error}).") from error


def _official(document: Any, source: SourceConfig) -> list[CocoImage]:
    """Read the official layout: ``images`` and, in any order, ``annotations`` that name them."""
    if source.split is not None:
        raise DataError(f"split is {source.split!r}: only a Karpathy JSON has splits, so leave it empty.")
    captions: dict[int, list[str]] = defaultdict(list)
    for annotation in document["annotations"]:
        if "caption" in annotation:
            captions[annotation["image_id"]].append(annotation["caption"].strip())
    return [_image(image["file_name"], captions[image["id"]]) for image in document["images"]]


def _karpathy(document: Any, source: SourceConfig) -> list[CocoImage]:
    """Read Karpathy's layout: ``images`` of all splits that hold their captions; ``train`` includes ``restval``."""
    splits = sorted({image["split"] for image in document["images"]})
    if source.split not in splits:
        raise DataError(f"split is {source.split!r}: {source.path} has {', '.join(splits)}, so set it to one of them.")
    wanted = {"train", "restval"} if source.split == "train" else {source.split}
    return [
        _image(
            str(PurePosixPath(image.get("filepath", ""), image["filename"])),
            [sentence["raw"].strip() for sentence in image["sentences"]],
        )
        for image in document["images"]
        if image["split"] in wanted
    ]


def _image(file: str, captions: list[str]) -> CocoImage:
    return CocoImage(str(PurePosixPath(file).with_suffix("")), file, captions)


def find_images(source: SourceConfig, images: list[CocoImage]) -> tuple[AbstractFileSystem, str]:
    """Return the file system and folder of the images: ``source.images``, or one of the usual folders beside the JSON.

    Raises:
        DataError: none of the first ten images is in any of them.
    """
    folders = [source.images] if source.images else _usual_folders(source.path)
    for folder in folders:
        filesystem, path = filesystem_for(folder)
        first = [f"{path}/{image.file}" for image in images[:10]]
        if any(file_info(filesystem, file).is_file for file in first):
            return filesystem, path
    raise DataError(
        f"images is {source.images!r}: the files that {source.path} names are not in {' or '.join(folders)}, "
        "so set it to their folder."
    )


def _usual_folders(path: str) -> list[str]:
    """Return the folders to look in: for ``a/annotations/captions_val2017.json``, first ``a/val2017``."""
    here, _, name = path.rpartition("/")
    here = here or "."
    split = name.removesuffix(".json").removeprefix("captions_")
    return [f"{here}/../{split}", f"{here}/{split}", f"{here}/images", here]
