"""What a run recorded of its data when it was trained: where the training images are, and their size."""

from __future__ import annotations

from typing import Any

import yaml

from models.run_layout import RunLayout
from t2i.config import ROOT, recorded
from t2i.data.source import SourceConfig
from t2i.storage import DataError, as_data_error, file_info, filesystem_for, read_file, write_file


def trained_image_size(run: str) -> int | None:
    """Return the side in px of the images that the run's dVAE was trained on; None if the run does not say."""
    size: int | None = _lookup(RunLayout(run).dvae_record, "task", "image_size")
    return size


def training_source(run: str) -> SourceConfig | None:
    """Return the images that the run's prior was trained on, as image tokens; None if the run does not say.

    Raises:
        DataError: the record is damaged.
    """
    file = RunLayout(run).prior_record
    record = _lookup(file, "inputs", "tokens", "train", "source")
    if record is None:
        return None
    try:
        source = SourceConfig(**record)
    except (TypeError, ValueError) as error:
        raise DataError(f"{file} does not describe the training images: {error}") from error
    source.path = _here(source.path)
    source.images = source.images and _here(source.images)
    return source


def write_training_source(run: str, source: SourceConfig) -> None:
    """Record the images that a prior was trained on in a run that holds a copy of it."""
    record = {"inputs": {"tokens": {"train": {"source": recorded(source)}}}}
    text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
    write_file(*filesystem_for(RunLayout(run).prior_record), text.encode())


def _lookup(file: str, *keys: str) -> Any:
    """Return the value under nested ``keys`` of a YAML file; None if there is no such file or key.

    Raises:
        DataError: the file is damaged, or its store does not answer.
    """
    filesystem, path = filesystem_for(file)
    with as_data_error(file):
        if not file_info(filesystem, path).is_file:
            return None
    try:
        value: Any = yaml.safe_load(read_file(file).decode()) or {}
        for key in keys:
            value = value.get(key) or {}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:  # the last: a list or a text has no keys
        raise DataError(f"{file} is damaged: it is not what was written.") from error
    return value or None


def _here(path: str) -> str:
    """Return a path as :func:`t2i.config.recorded` leaves it, absolute."""
    return path if "://" in path else str(ROOT / path)
