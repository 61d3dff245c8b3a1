"""Evaluate caption sets that are prepared: draw and measure everything, then compute figures set by set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from t2i.config import recorded
from t2i.contact_sheet import SheetRow, contact_sheet
from t2i.evaluate.candidates import to_png
from t2i.evaluate.caption_sets import CaptionSet
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.extractors import fetch_extractor, protocol_hash
from t2i.evaluate.features import FeatureFolder
from t2i.evaluate.figures import Figure
from t2i.evaluate.gallery import CaptionCard, Galleries, choose_galleries, load_cards
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.joint_elb import joint_elb_figures
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.measure import ImageCaptions, measure
from t2i.evaluate.pipeline import captioned_images, draw, measure_elb, measure_images
from t2i.evaluate.prepare import PreparedSet, PreparedTraining, measured_side
from t2i.evaluate.reference import Reference, check_reference, write_reference
from t2i.evaluate.summary import CandidateSummary, summarise
from t2i.evaluate.sweep import set_name, sweep_sizes
from t2i.evaluate.tasks import one_thread
from t2i.metrics.features import ExtractorProtocol, extractor_protocol
from t2i.storage import filesystem_for, write_file

CONTROLS = ("real", "reconstruction", "random_tokens")


@dataclass(frozen=True)
class Measuring:
    """How images are measured: the extractor, and the short hash under which features are kept."""

    extractor: ExtractorProtocol
    protocol: str


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
    return Measuring(extractor, protocol_hash(extractor, config, models["clip"]))


def draw_and_measure(
    sets: Sequence[PreparedSet], training: PreparedTraining, measuring: Measuring, config: EvaluateConfig
) -> None:
    """Draw, rank and store the candidates of all sets, and measure all images, as far as that is not done."""
    images = [("real", each.real, each.layout) for each in sets if each.real is not None]
    if training.store is not None:
        images.append(("train", training.store, training.layout))
    measure_images(images, measuring.protocol, config)
    draw([(each.work_list, each.layout) for each in sets], measuring.protocol, config)
    if config.elb:
        real = [captioned_images(each.real, each.work_list, each.layout) for each in sets if each.real is not None]
        measure_elb(real, measuring.protocol, config)


def evaluate_set(
    prepared: PreparedSet, training: PreparedTraining, measuring: Measuring, config: EvaluateConfig
) -> MeasuredSet:
    """Return all figures of a set whose images are measured, and what the report shows of it."""
    layout = prepared.layout
    sets = image_sets(prepared, training, measuring, config)
    captions = ImageCaptions.of_items(sets["best"].folder, prepared.work_list.items)
    figures = measure(
        list(sets.values()),
        _reference(sets, config),
        captions,
        measuring.extractor,
        config.blur_radii,
        config.seed,
        config.overlap,
    )
    if "real" in sets:
        described = describe_reference(prepared.caption_set, config)
        file = layout.reference(measuring.protocol)
        ray.get(_write_reference.remote(sets["real"], measuring.extractor, config.blur_radii, described, file))
    if config.elb and prepared.real is not None:
        store, _, _ = captioned_images(prepared.real, prepared.work_list, layout)
        figures += joint_elb_figures(_folder(layout, "elb", len(store.shards), measuring))
    summary = summarise(layout, len(prepared.work_list.shards))
    galleries = choose_galleries(summary.ids, summary.best, config.shown, config.seed)
    cards = _cards(galleries.ids, prepared, config)
    _write_contact_sheet([cards[caption_id] for caption_id in galleries.sample], layout)
    return MeasuredSet(prepared, summary, sets, figures, galleries, cards, training.note)


def describe_reference(caption_set: CaptionSet, config: EvaluateConfig) -> dict[str, Any]:
    """Return how the real images of a set were chosen and prepared, for those who are given their statistics."""
    return {
        "set": caption_set.name,
        "source": recorded(caption_set.image_source)["path"],
        "reference_images": config.reference_images,
        "captions": config.captions,
        "seed": config.seed,
        "image_size": measured_side(config),
        "crop": config.crop,
    }


_write_reference = one_thread(write_reference)


def image_sets(
    prepared: PreparedSet, training: PreparedTraining, measuring: Measuring, config: EvaluateConfig
) -> dict[str, ImageSet]:
    """Return all measured image sets by name, the drawn ones first."""
    layout, protocol, cut = prepared.layout, measuring.protocol, measuring.extractor.multiple_of
    drawn = _folder(layout, "drawn", len(prepared.work_list.shards), measuring)
    sizes = sweep_sizes(config.candidates, pruned=config.pruning.prunes)
    folders = {set_name(size, config.candidates): drawn for size in reversed(sizes)}
    if prepared.real is not None:
        folders |= dict.fromkeys(CONTROLS, _folder(layout, "real", len(prepared.real.shards), measuring))
    sets = {name: ImageSet(name, folder, layout, protocol, cut) for name, folder in folders.items()}
    if prepared.real is not None and training.store is not None:
        folder = _folder(training.layout, "train", len(training.store.shards), measuring)
        sets["train"] = ImageSet("train", folder, training.layout, protocol, cut)
    return sets


def _folder(layout: SetLayout, family: str, shards: int, measuring: Measuring) -> FeatureFolder:
    return FeatureFolder(layout.features(measuring.protocol, family), shards)


def _reference(sets: dict[str, ImageSet], config: EvaluateConfig) -> Reference | None:
    """Return what the set's images are compared with: the given file, else its own images."""
    if config.reference:
        return Reference(sets.get("real"), config.reference)
    return Reference(sets["real"]) if "real" in sets else None


def _cards(ids: Sequence[str], prepared: PreparedSet, config: EvaluateConfig) -> dict[str, CaptionCard]:
    """Return the cards of some captions by id."""
    items = prepared.work_list.items
    places = {item.id: index for index, item in enumerate(items)}
    wanted = {name: divmod(places[name], prepared.work_list.shard) for name in ids}
    image_ids = [items[places[name]].image_id for name in ids]
    real = prepared.real.pixels(image_ids) if prepared.real else {}
    cards: dict[str, CaptionCard] = ray.get(load_cards.remote(wanted, real, prepared.layout, config.for_workers()))
    return cards


def _write_contact_sheet(cards: Sequence[CaptionCard], layout: SetLayout) -> None:
    if cards:
        sheet = contact_sheet([SheetRow.ranked(card.caption, card.images, card.scores) for card in cards])
        write_file(*filesystem_for(layout.contact_sheet), to_png(np.asarray(sheet)))
