"""Evaluate one caption set: prepare what can fail before anything is drawn, then draw and measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray

from models.errors import UserError
from models.run_sizes import run_sizes
from t2i.contact_sheet import SheetRow, contact_sheet
from t2i.evaluate.candidates import to_png
from t2i.evaluate.config import MIN_IMAGES, CaptionSet, EvaluateConfig
from t2i.evaluate.extractors import fetch_extractor, protocol_hash
from t2i.evaluate.features import FeatureFolder
from t2i.evaluate.figures import Figure
from t2i.evaluate.gallery import CaptionCard, Galleries, choose_galleries, load_cards
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.image_store import ImageStore, store_images
from t2i.evaluate.joint_elb import joint_elb_figures
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.measure import ImageCaptions, measure
from t2i.evaluate.pipeline import draw, measure_elb, measure_real, measure_training
from t2i.evaluate.reference import Reference, check_reference
from t2i.evaluate.selection import choose_captions, reference_ids, write_captions
from t2i.evaluate.summary import CandidateSummary, summarise
from t2i.evaluate.sweep import set_name, sweep_sizes
from t2i.evaluate.training_images import TrainingImages, choose_training_images
from t2i.evaluate.work_list import WorkList, check_work_list, make_work_list, write_work_list
from t2i.metrics.features import ExtractorProtocol, extractor_protocol
from t2i.storage import DataError, fetch_run, filesystem_for, write_file

CONTROLS = ("real", "reconstruction", "random_tokens")


class TooFewImagesError(UserError):
    """A source has too few usable images for the distances that are asked for."""


@dataclass(frozen=True)
class Measuring:
    """How images are measured: the extractor, and the short hash under which features are kept."""

    extractor: ExtractorProtocol
    protocol: str


@dataclass(frozen=True)
class PreparedSet:
    """A caption set whose captions are chosen and whose images to compare with are stored; nothing is drawn yet."""

    caption_set: CaptionSet
    work_list: WorkList
    layout: SetLayout
    real: ImageStore | None


@dataclass(frozen=True)
class TrainingControl:
    """The training images that are measured, and why there are none if ``images`` is None."""

    note: str
    images: ImageSet | None = None


@dataclass(frozen=True)
class MeasuredSet:
    """Everything that was found of a caption set."""

    prepared: PreparedSet
    summary: CandidateSummary
    sets: dict[str, ImageSet]
    figures: list[Figure]
    galleries: Galleries
    cards: dict[str, CaptionCard]
    training: str


def how_to_measure(config: EvaluateConfig, models: dict[str, str]) -> Measuring:
    """Return how the images of all sets are measured.

    Raises:
        UserError: the extractor's weights are missing, or the reference was made with others.
    """
    extractor = extractor_protocol(fetch_extractor(config.extractor))
    if config.reference:
        check_reference(config.reference, extractor, config.blur_radii)
    return Measuring(extractor, protocol_hash(extractor, config.blur_radii, models["clip"]))


def prepare_set(caption_set: CaptionSet, config: EvaluateConfig, models: dict[str, str]) -> PreparedSet:
    """Choose the captions of a set, and store the images that they are compared with.

    Raises:
        OtherEvaluationError: ``out`` holds an evaluation of another configuration.
        TooFewImagesError: too few of the images can be used.
    """
    captions = choose_captions(caption_set, config)
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
    side = run_sizes(fetch_run(config.run)).side
    store = store_images(caption_set.image_source, ids, side, layout.images("real"), config.crop)
    return _enough(store, len(ids), f"{field}: {caption_set.image_source.path}", "images=false")


def _enough(store: ImageStore, wanted: int, source: str, remedy: str) -> ImageStore:
    if len(store.ids) < MIN_IMAGES:
        raise TooFewImagesError(
            f"{source} has {len(store.ids)} usable images of {wanted}: "
            f"distances need at least {MIN_IMAGES}, so add images or set {remedy}."
        )
    return store


def prepare_training(config: EvaluateConfig) -> tuple[TrainingImages, ImageStore | None]:
    """Choose and store the training images; those of a recorded source that cannot be used are left out, with a note.

    Raises:
        UserError: the given source cannot be used.
    """
    chosen = choose_training_images(config)
    if chosen.source is None:
        return chosen, None
    side = run_sizes(fetch_run(config.run)).side
    try:
        store = store_images(chosen.source, chosen.ids, side, _training_layout(config).images("train"))
        return chosen, _enough(store, len(chosen.ids), "training_source", "training_source=null")
    except (DataError, TooFewImagesError) as error:
        if chosen.given:
            raise
        return TrainingImages(f"none: {error}"), None


def measure_training_control(
    chosen: TrainingImages, store: ImageStore | None, measuring: Measuring, config: EvaluateConfig
) -> TrainingControl:
    """Measure the training images, which all caption sets are compared with."""
    if store is None:
        return TrainingControl(chosen.note)
    layout = _training_layout(config)
    folder = measure_training(store, layout, measuring.protocol, config)
    return TrainingControl(chosen.note, ImageSet("train", folder, layout, measuring.protocol))


def _training_layout(config: EvaluateConfig) -> SetLayout:
    return SetLayout(f"{config.out}/training")


def evaluate_set(
    prepared: PreparedSet, training: TrainingControl, measuring: Measuring, config: EvaluateConfig
) -> MeasuredSet:
    """Draw, rank, store and measure the candidates of a prepared set."""
    layout, protocol = prepared.layout, measuring.protocol
    drawn = draw(prepared.work_list, layout, protocol, config)
    sets = _image_sets(prepared, drawn, training, measuring, config)
    reference = _reference(sets, config)
    items = prepared.work_list.items
    captions = ImageCaptions(drawn, [item.id for item in items], [item.image_id for item in items])
    figures = measure(list(sets.values()), reference, captions, measuring.extractor, config.blur_radii, config.seed)
    if config.elb and prepared.real is not None:
        figures += _elb(prepared, protocol, config)
    summary = summarise(layout, len(prepared.work_list.shards))
    galleries = choose_galleries(summary.ids, summary.best, config.shown, config.seed)
    cards = _cards(galleries.ids, prepared, config)
    _write_contact_sheet([cards[caption_id] for caption_id in galleries.sample], layout)
    return MeasuredSet(prepared, summary, sets, figures, galleries, cards, training.note)


def _image_sets(
    prepared: PreparedSet,
    drawn: FeatureFolder,
    training: TrainingControl,
    measuring: Measuring,
    config: EvaluateConfig,
) -> dict[str, ImageSet]:
    """Return all measured image sets by name, the drawn ones first."""
    layout, protocol = prepared.layout, measuring.protocol
    sizes = sweep_sizes(config.candidates, pruned=config.pruning.prunes)
    folders = {set_name(size, config.candidates): drawn for size in reversed(sizes)}
    if prepared.real is not None:
        real = measure_real(prepared.real, layout, protocol, config)
        folders |= dict.fromkeys(CONTROLS, real)
    sets = {name: ImageSet(name, folder, layout, protocol) for name, folder in folders.items()}
    return sets | ({"train": training.images} if training.images and "real" in sets else {})


def _reference(sets: dict[str, ImageSet], config: EvaluateConfig) -> Reference | None:
    """Return what the set's images are compared with: the given file, else its own images."""
    if config.reference:
        return Reference(sets.get("real"), config.reference)
    return Reference(sets["real"]) if "real" in sets else None


def _elb(prepared: PreparedSet, protocol: str, config: EvaluateConfig) -> list[Figure]:
    assert prepared.real is not None
    captions = {item.image_id: item.caption for item in reversed(prepared.work_list.items)}
    return list(joint_elb_figures(measure_elb(prepared.real, captions, prepared.layout, protocol, config)))


def _cards(ids: Sequence[str], prepared: PreparedSet, config: EvaluateConfig) -> dict[str, CaptionCard]:
    """Return the cards of some captions by id."""
    items = prepared.work_list.items
    places = {item.id: index for index, item in enumerate(items)}
    wanted = {name: divmod(places[name], prepared.work_list.shard) for name in ids}
    image_ids = [items[places[name]].image_id for name in ids]
    real = prepared.real.pixels(image_ids) if prepared.real else {}
    cards: dict[str, CaptionCard] = ray.get(load_cards.remote(wanted, real, prepared.layout, config))
    return cards


def _write_contact_sheet(cards: Sequence[CaptionCard], layout: SetLayout) -> None:
    if cards:
        sheet = contact_sheet([SheetRow.ranked(card.caption, card.images, card.scores) for card in cards])
        write_file(*filesystem_for(layout.contact_sheet), to_png(np.asarray(sheet)))
