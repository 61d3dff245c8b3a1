"""Measure the images of a receipt again, and draw some again, with the models: every bit has to come out the same."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from t2i.config import ConfigError, load_mapping
from t2i.evaluate.candidates import CaptionCandidates, candidates_folder, open_shard, read_caption
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.evaluation import how_to_measure
from t2i.evaluate.features import FeatureFolder
from t2i.evaluate.image_store import ImageStore, open_images
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.pipeline import captioned_images, draw, measure_elb, measure_images
from t2i.evaluate.receipts.files import STORED
from t2i.evaluate.receipts.findings import Finding, compared
from t2i.evaluate.receipts.settings import VerifyConfig
from t2i.evaluate.receipts.stored import Receipt, StoredSet, UnusableReceiptError
from t2i.evaluate.work_list import run_models
from t2i.storage import delete_folder, filesystem_for

AGAIN = "-again"
"""End of the name under which features are stored while they are compared."""


def verify_deeply(receipt: Receipt, config: VerifyConfig) -> Iterator[Finding]:
    """Return what is found of images that are measured and drawn again, as far as ``config`` asks for it.

    Raises:
        UserError: the models are missing, or are not those of the receipt; at once, before anything is measured.
    """
    if not config.deep and not config.drawn_again:
        return iter(())
    return _findings(receipt, config, evaluation_of(receipt, config))


def _findings(receipt: Receipt, config: VerifyConfig, evaluation: EvaluateConfig) -> Iterator[Finding]:
    for each in receipt.sets:
        if config.deep:
            yield from measure_again(each, evaluation)
        if config.drawn_again:
            yield from draw_again(each, evaluation, config.drawn_again, config.draws_seed)


def evaluation_of(receipt: Receipt, config: VerifyConfig) -> EvaluateConfig:
    """Return the evaluation's settings, with the models and weights of this machine.

    Raises:
        CheckpointError: a model is missing or damaged.
        UnusableReceiptError: models or extractor are not those of the receipt.
    """
    settings = dict(receipt.document["settings"])
    settings |= {"out": receipt.root, "run": config.run or settings["run"], "reference": None}
    if config.extractor_weights:
        settings["extractor"] = settings["extractor"] | {"weights": config.extractor_weights}
    settings = {name: value for name, value in settings.items() if name in EvaluateConfig.__dataclass_fields__}
    try:
        evaluation = load_mapping(EvaluateConfig, _without_empty(settings))
    except ConfigError as error:
        raise UnusableReceiptError(f"receipt is {receipt.uri}, whose settings this code refuses: {error}") from error
    _same("run", evaluation.run, receipt.document["models"], models := run_models(evaluation.run))
    extractor = asdict(how_to_measure(evaluation, models).extractor)
    _same("extractor", evaluation.extractor.network, asdict(receipt.extractor), extractor)
    return evaluation


def _without_empty(values: Any) -> Any:
    """Return nested values without empty texts: they are defaults, which no one can type."""
    if isinstance(values, dict):
        return {key: _without_empty(value) for key, value in values.items() if value != ""}
    return [_without_empty(each) for each in values] if isinstance(values, list) else values


def _same(field: str, here: str, said: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for name in found:
        if said.get(name) != found[name]:
            raise UnusableReceiptError(
                f"{field} is {here}, whose {name} is {found[name]} where the receipt says {said.get(name)}: "
                "name the one that was evaluated."
            )


def measure_again(stored: StoredSet, config: EvaluateConfig) -> Iterator[Finding]:
    """Yield for every array of features whether it comes out again, of images that are decoded and made anew."""
    protocol = stored.protocol + AGAIN
    folders = dict.fromkeys(images.folder for images in stored.images.values())
    roots = [folder.uri.rpartition("/")[0] + AGAIN for folder in folders]
    for root in roots:
        _delete(root)  # of a verification that was killed: other models may have made it
    draw([(stored.work_list, stored.layout)], protocol, config)
    stores = [(name, _store(stored, name)) for name in STORED if name in stored.images]
    measure_images([(name, store, stored.images[name].layout) for name, store in stores], protocol, config)
    if stored.elb:
        measure_elb([captioned_images(_store(stored, "real"), stored.work_list, stored.layout)], protocol, config)
        folders[stored.elb] = None
    for folder in folders:
        root, _, family = folder.uri.rpartition("/")
        yield from _compare_folders(stored.name, folder, FeatureFolder(f"{root}{AGAIN}/{family}", folder.shards))
    for root in roots:
        _delete(root)


def _store(stored: StoredSet, name: str) -> ImageStore:
    """Return the stored images of a set."""
    images = stored.images[name]
    return open_images(images.layout.images(name), images.ids)


def _delete(uri: str) -> None:
    delete_folder(*filesystem_for(uri))


def _compare_folders(name: str, before: FeatureFolder, after: FeatureFolder) -> Iterator[Finding]:
    """Yield for each array of a family whether it has the same bits in both folders, else by how much it differs."""
    with np.load(io.BytesIO(before.folder.read(0)), allow_pickle=False) as arrays:
        columns = list(arrays)
    for column in columns:
        yield Finding(
            f"{name}: {column} measured again", _array_difference(before.column(column), after.column(column))
        )


def _array_difference(said: np.ndarray, found: np.ndarray) -> str:
    """Return in words how two arrays [n, ...] differ; empty if they are equal bit for bit."""
    if said.shape != found.shape:
        return f"has the shape {list(found.shape)} instead of {list(said.shape)}"
    differ = np.array(
        [not np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(said, found, strict=True)]
    )
    if not differ.any():
        return ""
    first = f"{differ.sum()} of {len(said)} rows differ, the first is {int(differ.argmax())}"
    if said.dtype.kind != "f":
        return first
    return f"{first}, by at most {np.abs(said - found).max():.3g}"


def draw_again(stored: StoredSet, config: EvaluateConfig, count: int, seed: int) -> Iterator[Finding]:
    """Draw ``count`` captions again, chosen by ``seed``; yield whether tokens, scores and pixels of each are equal."""
    work_list = stored.work_list
    count = min(count, len(work_list.items))
    chosen = np.sort(np.random.default_rng(seed).choice(len(work_list.items), count, replace=False)).tolist()
    layout = SetLayout(f"{stored.layout.root}/drawn{AGAIN}")
    _delete(layout.root)
    few = replace(work_list, items=tuple(work_list.items[place] for place in chosen))
    draw([(few, layout)], stored.protocol, config)
    drawn = FeatureFolder(layout.features(stored.protocol, "drawn"), len(few.shards))
    hashes = stored.images["best"].hashes[chosen], drawn.column("best/hashes")
    for index, place in enumerate(chosen):
        title = f"{stored.name}: {{}} of {few.items[index].id} drawn again"
        before = _drawn(stored.layout, *divmod(place, work_list.shard))
        after = _drawn(layout, *divmod(index, work_list.shard))
        yield Finding(title.format("tokens"), _array_difference(before.image_tokens, after.image_tokens))
        yield Finding(title.format("scores"), _array_difference(before.scores, after.scores))
        yield compared(title.format("pixels"), *(part[index].tobytes().hex() for part in hashes))
    _delete(layout.root)


def _drawn(layout: SetLayout, shard: int, index: int) -> CaptionCandidates:
    """Return the stored candidates of one caption."""
    return read_caption(open_shard(candidates_folder(layout.candidates), shard), index)
