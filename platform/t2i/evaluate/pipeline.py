"""The passes of an evaluation over Ray Data; each row of a pipeline is a shard, and finished shards are skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, Dataset

from models.errors import UserError
from t2i.evaluate.config import ActorPool, EvaluateConfig
from t2i.evaluate.features import SUFFIX, FeatureFolder
from t2i.evaluate.image_store import ImageStore, load_images
from t2i.evaluate.joint_elb import MeasureJointELB
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.progress import ShardProgress
from t2i.evaluate.shards import ShardFolder
from t2i.evaluate.stages import ExtractFeatures, Generate, MakeControls, Score
from t2i.evaluate.work_list import WorkList

# One pipeline for each family of images; the stages of one run at the same time, in actor pools of their own:
#
#   drawn   work list ───────────────────> Generate ──> Score ──> ExtractFeatures
#                                                         └─ candidates/      └─ features/<protocol>/drawn/
#   real    images/real/ ──> load_images ──> MakeControls ──────> ExtractFeatures ── features/<protocol>/real/
#   train   images/train/ ──> load_images ──────────────────────> ExtractFeatures ── features/<protocol>/train/
#   elb     images/real/ ──> load_images ──> MeasureJointELB ── features/<protocol>/elb/
#
# Images of drawn candidates go from the decoder to CLIP and to the extractor without being encoded in between. Only a
# shard whose candidates are stored and whose features are not (a run was killed between the two, or another extractor
# is asked for) is decoded again, from its tokens.


class LostShardsError(UserError):
    """Shards are still missing when their pipeline has ended."""


def draw(work_list: WorkList, layout: SetLayout, protocol: str, config: EvaluateConfig) -> FeatureFolder:
    """Draw, rank, store and measure all captions of the work list that are not finished; return their features."""
    uri = layout.features(protocol, "drawn")
    stored = ShardFolder(layout.candidates, ".parquet").done()
    rows = [
        {"shard": shard, "stored": shard in stored, "items": [asdict(item) for item in items]}
        for shard, items in enumerate(work_list.shards)
    ]

    def stages(shards: Dataset, count: int) -> Dataset:
        drawn = _map(shards, Generate, (config,), config.generate, count)
        scored = _map(drawn, Score, (config, layout), config.score, count)
        return _map(scored, ExtractFeatures, (config, uri), config.extract, count)

    return _complete(rows, ShardFolder(uri, SUFFIX), stages, config)


def measure_real(store: ImageStore, layout: SetLayout, protocol: str, config: EvaluateConfig) -> FeatureFolder:
    """Measure the stored images to compare with and their controls, as far as that is not done."""
    uri = layout.features(protocol, "real")

    def stages(shards: Dataset, count: int) -> Dataset:
        controls = _map(shards.map(load_images), MakeControls, (config,), config.controls, count)
        return _map(controls, ExtractFeatures, (config, uri), config.extract, count)

    return _complete(store.shards, ShardFolder(uri, SUFFIX), stages, config)


def measure_training(store: ImageStore, layout: SetLayout, protocol: str, config: EvaluateConfig) -> FeatureFolder:
    """Measure the stored training images, as far as that is not done."""
    uri = layout.features(protocol, "train")

    def stages(shards: Dataset, count: int) -> Dataset:
        images = shards.map(load_images).map(_name_set)
        return _map(images, ExtractFeatures, (config, uri), config.extract, count)

    return _complete(store.shards, ShardFolder(uri, SUFFIX), stages, config)


def measure_elb(
    store: ImageStore, captions: Mapping[str, str], layout: SetLayout, protocol: str, config: EvaluateConfig
) -> FeatureFolder:
    """Measure the evidence lower bound of the stored images that have ``captions`` (image id -> text)."""
    uri = layout.features(protocol, "elb")
    rows = [row | {"captions": [captions[image_id] for image_id in row["ids"]]} for row in store.shards]

    def stages(shards: Dataset, count: int) -> Dataset:
        return _map(shards.map(load_images), MeasureJointELB, (config, uri), config.controls, count)

    return _complete(rows, ShardFolder(uri, SUFFIX), stages, config)


def _complete(
    rows: Sequence[dict[str, Any]],
    folder: ShardFolder,
    stages: Callable[[Dataset, int], Dataset],
    config: EvaluateConfig,
) -> FeatureFolder:
    """Run ``stages`` on the rows of the shards that ``folder`` lacks, and show how far they are.

    Raises:
        LostShardsError: a shard is still missing at the end.
    """
    done = folder.done()
    pending = [row for row in rows if row["shard"] not in done]
    if pending:
        # One block a row: Ray gives an actor one block at a time, and gives it out again if the actor dies.
        shards = ray.data.from_items(pending, override_num_blocks=len(pending))
        shards.context.enable_progress_bars = False
        pools = {name: getattr(config, name).actors for name in ("generate", "score", "controls", "extract")}
        progress = ShardProgress(_title(folder), len(rows), len(rows) - len(pending), pools)
        for _ in progress.follow(stages(shards, len(pending)).iter_rows()):
            pass
        _require_all(len(rows), folder)
    return FeatureFolder(folder.uri, len(rows))


def _require_all(shards: int, folder: ShardFolder) -> None:
    # A pipeline that ended is no proof that every shard is there: figures of a part would look like those of the whole.
    missing = sorted(set(range(shards)) - folder.done())
    if missing:
        raise LostShardsError(
            f"{folder.uri} lacks {len(missing)} of {shards} shards (first: {missing[0]}): "
            "start the job again, what is finished is kept."
        )


def _title(folder: ShardFolder) -> str:
    """Return what the progress line calls a family of a caption set: ``val drawn``."""
    *_, caption_set, _, _, family = folder.uri.split("/")
    return f"{caption_set} {family}"


def _name_set(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"sets": ["train"] * len(row["ids"])}


def _map(shards: Dataset, stage: Any, arguments: Sequence[Any], pool: ActorPool, count: int) -> Dataset:
    """Return the dataset of ``count`` shards, each mapped by an actor of ``pool`` made by ``stage(*arguments)``."""
    return shards.map(
        stage,
        fn_constructor_args=arguments,
        compute=ActorPoolStrategy(size=min(pool.actors, count)),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
