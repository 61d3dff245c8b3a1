"""Prepare an evaluation: all that can fail before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import UserError
from models.run_sizes import run_sizes
from t2i.data import check_pairs
from t2i.evaluate.caption_sets import TRAINING, CaptionSet
from t2i.evaluate.config import MIN_IMAGES, EvaluateConfig
from t2i.evaluate.image_store import ImageStore, store_images
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.selection import choose_captions, reference_ids, write_captions
from t2i.evaluate.training_images import choose_training_images
from t2i.evaluate.work_list import WorkList, check_work_list, make_work_list, write_work_list
from t2i.metrics.inception_input import INCEPTION_PRESETS
from t2i.storage import DataError, fetch_run


class TooFewImagesError(UserError):
    """A source has too few usable images for the distances that are asked for."""


@dataclass(frozen=True)
class PreparedSet:
    """A caption set whose captions are chosen and whose images to compare with are stored; nothing is drawn yet."""

    caption_set: CaptionSet
    work_list: WorkList
    layout: SetLayout
    real: ImageStore | None


@dataclass(frozen=True)
class PreparedTraining:
    """The stored training images, which all caption sets are compared with; ``note`` says why if there are none."""

    note: str
    layout: SetLayout
    store: ImageStore | None = None


def check_sources(config: EvaluateConfig) -> None:
    """Check what would otherwise fail after hours of drawing, without Ray: pruning, and images to compare with.

    Raises:
        UserError: a setting does not fit the run, or a source cannot be read.
    """
    config.pruning.check(run_sizes(fetch_run(config.run)).grid)
    sources = [caption_set.image_source for caption_set in config.sets if caption_set.images]
    if config.training_source and config.training_source.path:
        sources.append(config.training_source)
    for source in sources:
        check_pairs(source, need_captions=False)


def prepare_set(caption_set: CaptionSet, config: EvaluateConfig, models: dict[str, str]) -> PreparedSet:
    """Choose the captions of a set, and store the images that they are compared with.

    Raises:
        OtherEvaluationError: ``out`` holds an evaluation of another configuration.
        TooFewImagesError: too few captions are drawn, or too few of the images can be used.
    """
    captions = choose_captions(caption_set, config)
    _check_drawn(caption_set.name, len(captions), config)
    work_list = make_work_list(captions, config, models)
    layout = SetLayout(f"{config.out}/{caption_set.name}")
    check_work_list(work_list, layout)
    real = _real_images(caption_set, work_list, layout, config) if caption_set.images else None
    write_work_list(work_list, layout)
    write_captions(layout.captions, captions)
    return PreparedSet(caption_set, work_list, layout, real)


def _real_images(caption_set: CaptionSet, work_list: WorkList, layout: SetLayout, config: EvaluateConfig) -> ImageStore:
    ids = reference_ids(caption_set, [item.image_id for item in work_list.items], config)
    field = f"sets: {caption_set.name}"
    store = store_images(caption_set.image_source, ids, measured_side(config), layout.images("real"), config.crop)
    return _enough(store, len(ids), f"{field}: {caption_set.image_source.path}", "images=false", config)


def measured_side(config: EvaluateConfig) -> int:
    """Return the height and width in pixels of all images when their features are taken.

    Raises:
        UserError: the run draws images that are not square.
    """
    return config.image_size or run_sizes(fetch_run(config.run)).side


def _check_drawn(name: str, captions: int, config: EvaluateConfig) -> None:
    """Raise TooFewImagesError if the extractor's preset would cut the drawn images of a set to none."""
    preset = config.extractor.preset
    if captions < (batch := INCEPTION_PRESETS[preset].multiple_of):
        raise TooFewImagesError(
            f"sets: {name} has {captions} captions to draw, and extractor.preset={preset} leaves out what fills "
            f"no batch of {batch}: draw at least {batch}, or use another preset."
        )


def _enough(store: ImageStore, wanted: int, source: str, remedy: str, config: EvaluateConfig) -> ImageStore:
    least = max(MIN_IMAGES, INCEPTION_PRESETS[config.extractor.preset].multiple_of)
    if len(store.ids) < least:
        raise TooFewImagesError(
            f"{source} has {len(store.ids)} usable images of {wanted}: "
            f"distances need at least {least}, so add images or set {remedy}."
        )
    return store


def prepare_training(config: EvaluateConfig) -> PreparedTraining:
    """Choose and store the training images; those of a recorded source that cannot be used are left out, with a note.

    Raises:
        UserError: the given source cannot be used.
    """
    chosen = choose_training_images(config)
    layout = SetLayout(f"{config.out}/{TRAINING}")
    if chosen.source is None:
        return PreparedTraining(chosen.note, layout)
    try:
        store = store_images(chosen.source, chosen.ids, measured_side(config), layout.images("train"), config.crop)
        enough = _enough(store, len(chosen.ids), "training_source", "training_source=null", config)
        return PreparedTraining(chosen.note, layout, enough)
    except (DataError, TooFewImagesError) as error:
        if chosen.given:
            raise
        return PreparedTraining(f"none: {error}", layout)
