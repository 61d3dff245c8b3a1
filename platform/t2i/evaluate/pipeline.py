"""The passes of an evaluation over Ray Data; each row of a pipeline is a shard, and finished shards are skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, Dataset

from models.errors import UserError
from t2i.evaluate.candidates import candidates_folder
from t2i.evaluate.config import ActorPool, EvaluateConfig
from t2i.evaluate.features import SUFFIX
from t2i.evaluate.image_store import ImageStore, load_images
from t2i.evaluate.joint_elb import MeasureJointELB
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.progress import ShardProgress
from t2i.evaluate.shards import ShardFolder
from t2i.evaluate.stages import ExtractFeatures, Generate, MakeControls, Row, Score
from t2i.evaluate.work_list import WorkList

# Two pipelines (three with elb=true) for the shards of all caption sets together; the stages of one run at the same
# time, in actor pools of their own:
#
#   images to compare with   images/ ──> load_images ──> MakeControls ──> ExtractFeatures ──> features/
#   drawn images             work list ──> Generate ──> Score ──────────> ExtractFeatures ──> features/
#                                                         └──> candidates/
#   elb                      images/ ──> load_images ──> MeasureJointELB ───────────────────> features/
#
# Drawn images go from the decoder to CLIP and to the extractor without being encoded in between. Only a shard whose
# candidates are stored and whose features are not (a run was killed between the two, or another extractor is asked for)
# is decoded again, from its tokens.

Stages = Callable[[Dataset, int, EvaluateConfig], Dataset]
"""Maps a dataset of so many shards to finished ones."""


class LostShardsError(UserError):
    """Shards are still missing when their pipeline has ended."""


def draw(sets: Sequence[tuple[WorkList, SetLayout]], protocol: str, config: EvaluateConfig) -> None:
    """Draw, rank, store and measure all captions of the work lists, as far as that is not done."""
    rows: list[Row] = []
    for work_list, layout in sets:
        stored = candidates_folder(layout.candidates).done()
        for shard, items in enumerate(work_list.shards):
            row = {"shard": shard, "stored": shard in stored, "items": [asdict(item) for item in items]}
            rows.append(row | {"candidates": layout.candidates, "features": layout.features(protocol, "drawn")})
    _complete("drawn images", rows, _draw, config)


def _draw(shards: Dataset, count: int, config: EvaluateConfig) -> Dataset:
    drawn = _map(shards, Generate, (config,), config.generate, count)
    scored = _map(drawn, Score, (config,), config.score, count)
    return _map(scored, ExtractFeatures, (config,), config.extract, count)


def measure_images(sets: Sequence[tuple[str, ImageStore, SetLayout]], protocol: str, config: EvaluateConfig) -> None:
    """Measure stored images, as far as that is not done: each set is named ``real``, with controls, or ``train``."""
    rows = [
        row | {"name": name, "features": layout.features(protocol, name)}
        for name, store, layout in sets
        for row in store.shards
    ]
    _complete("images to compare with", rows, _measure_images, config)


def _measure_images(shards: Dataset, count: int, config: EvaluateConfig) -> Dataset:
    controls = _map(shards.map(load_images), MakeControls, (config,), config.controls, count)
    return _map(controls, ExtractFeatures, (config,), config.extract, count)


CaptionedImages = tuple[ImageStore, Mapping[str, str], SetLayout]
"""Images, the caption of each by its id, and where they are."""


def captioned_images(store: ImageStore, work_list: WorkList, layout: SetLayout) -> CaptionedImages:
    """Return those of the stored images that a drawn caption describes, with the first of its captions."""
    captions = {item.image_id: item.caption for item in reversed(work_list.items)}
    return store.among(captions), captions, layout


def measure_elb(sets: Sequence[CaptionedImages], protocol: str, config: EvaluateConfig) -> None:
    """Measure the evidence lower bound of stored images with their captions, if it is not done."""
    rows = [
        row | {"captions": [captions[name] for name in row["ids"]], "features": layout.features(protocol, "elb")}
        for store, captions, layout in sets
        for row in store.shards
    ]
    _complete("evidence lower bound", rows, _measure_elb, config)


def _measure_elb(shards: Dataset, count: int, config: EvaluateConfig) -> Dataset:
    return _map(shards.map(load_images), MeasureJointELB, (config,), config.controls, count)


def _complete(title: str, rows: Sequence[Row], stages: Stages, config: EvaluateConfig) -> None:
    """Run ``stages`` on the rows whose ``features`` are not finished, and show how far they are.

    Raises:
        LostShardsError: a shard is still missing at the end.
    """
    pending = _unfinished(rows)
    if not pending:
        return
    # One block a row: Ray gives an actor one block at a time, and gives it out again if the actor dies.
    shards = ray.data.from_items(pending, override_num_blocks=len(pending))
    shards.context.enable_progress_bars = False
    pools = {name: getattr(config, name).actors for name in ("generate", "score", "controls", "extract")}
    progress = ShardProgress(title, len(rows), len(rows) - len(pending), pools)
    for _ in progress.follow(stages(shards, len(pending), config.for_workers()).iter_rows()):
        pass
    # A pipeline that ended is no proof that every shard is there: figures of a part would look like those of the whole.
    if missing := _unfinished(rows):
        first = ShardFolder(missing[0]["features"], SUFFIX).path(missing[0]["shard"])
        raise LostShardsError(
            f"{len(missing)} of {len(rows)} shards are missing (first: {first}): "
            "start the job again, what is finished is kept."
        )


def _unfinished(rows: Sequence[Row]) -> list[Row]:
    folders = dict.fromkeys(row["features"] for row in rows)
    done = {uri: ShardFolder(uri, SUFFIX).done() for uri in folders}
    return [row for row in rows if row["shard"] not in done[row["features"]]]


def _map(shards: Dataset, stage: Any, arguments: Sequence[Any], pool: ActorPool, count: int) -> Dataset:
    """Return the dataset of ``count`` shards, each mapped by an actor of ``pool`` made by ``stage(*arguments)``."""
    return shards.map(
        stage,
        fn_constructor_args=arguments,
        compute=ActorPoolStrategy(size=min(pool.actors, count)),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
