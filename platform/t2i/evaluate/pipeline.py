"""The two passes of an evaluation over Ray Data: draw and rank candidates, then extract features of all images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, Dataset

from models.precision import companion_dtype
from t2i.data import SourceConfig
from t2i.evaluate.candidates import Candidates, candidate_files, finished_ids, read_candidates
from t2i.evaluate.config import ActorPool, CaptionSet, EvaluateConfig
from t2i.evaluate.feature_sets import FeatureSet, gather
from t2i.evaluate.figures import Figure
from t2i.evaluate.joint_elb import MeasureJointELB, joint_elb_figures
from t2i.evaluate.stages import ExtractFeatures, Generate, MakeControls, Score, candidate_rows, real_rows
from t2i.evaluate.training_images import TrainingImages
from t2i.evaluate.usable_images import decoded_images
from t2i.evaluate.work_list import WorkItem, WorkList
from t2i.logs import get_logger

log = get_logger("evaluate")

# The passes of one caption set, each a Ray Data pipeline whose stages run at the same time in actor pools of their own:
#
#   1. work list ──> Generate ──> Score ──> Parquet files (candidates)
#
#   2. candidates ──────────────────────> best, first ─────────────────────────────┐
#      the set's images ──> MakeControls ──> real, reconstruction, random_tokens ──┼──> ExtractFeatures ──> driver
#      training images ─────────────────────> train ───────────────────────────────┘
#
# Two and not one, because drawing takes by far the longest: everything drawn is on disk before anything is measured, so
# a run that was killed draws only what is missing, and all metrics see the whole set.


def generate_candidates(work_list: WorkList, directory: Path, config: EvaluateConfig) -> Candidates:
    """Draw, rank and store the captions that ``directory`` lacks; return the whole work list's candidates.

    Raises:
        IncompleteEvaluationError: a caption still has no candidates when the pipeline has ended.
    """
    finished = finished_ids(directory)
    pending = [item for item in work_list.items if item.id not in finished]
    done = len(finished)
    for batch in _generate(pending, work_list, directory, config):
        done += len(batch)
        log.info("%s: %d of %d captions", directory.parent.name, done, len(work_list.items))
    return read_candidates(directory, work_list)


def _generate(
    pending: Sequence[WorkItem], work_list: WorkList, directory: Path, config: EvaluateConfig
) -> Iterable[pa.Table]:
    """Yield a table {id} for every batch of captions once its candidates are stored."""
    if not pending:
        return []
    # One block per batch. Ray gives an actor one block at a time, and gives it out again if the actor dies: so all
    # actors of the pool get work, and a death costs one batch.
    rows, size = [asdict(item) for item in pending], config.generate.batch
    blocks = [pa.Table.from_pylist(rows[start : start + size]) for start in range(0, len(rows), size)]
    drawing = (config.run, work_list.candidates, config.sampling, config.slots, config.dtype)
    generate_arguments = (*drawing, config.pruning, config.compile)
    score_arguments = (config.run, str(directory), companion_dtype(config.dtype))
    stored = (
        ray.data.from_arrow(blocks)
        .map_batches(Generate, fn_constructor_args=generate_arguments, **_actors(config.generate))
        .map_batches(Score, fn_constructor_args=score_arguments, **_actors(config.score))
    )
    return stored.iter_batches(batch_size=None, batch_format="pyarrow")


def extract_features(
    caption_set: CaptionSet,
    candidates: Candidates,
    training: TrainingImages,
    shown: Sequence[str],
    config: EvaluateConfig,
) -> dict[str, FeatureSet]:
    """Return the features of all image sets, by name (second pass); keep pictures of the ids in ``shown``.

    The sets are ``best`` and ``first`` (not if pruned), if the captions have images ``real``, ``reconstruction`` and
    ``random_tokens``, and ``train`` if there are ``training`` images.
    """
    images = [_drawn_images(candidates, config)]
    if caption_set.images:
        images.append(_real_images_and_controls(caption_set, candidates, config))
    if caption_set.images and training.source is not None:
        images.append(_training_images(training.source, training.ids, candidates, config))
    extract_arguments = (
        config.run,
        config.extractor,
        tuple(config.blur_radii),
        frozenset(shown),
        companion_dtype(config.dtype),
    )
    features = reduce(Dataset.union, images).map_batches(
        ExtractFeatures, fn_constructor_args=extract_arguments, **_actors(config.extract)
    )
    return gather(features.iter_batches(batch_size=None, batch_format="pyarrow"))


def _drawn_images(candidates: Candidates, config: EvaluateConfig) -> Dataset:
    drawn = ray.data.read_parquet(candidate_files(candidates.directory))
    drawn = drawn.select_columns(["id", "image", "candidate", "rank"])
    return drawn.map_batches(partial(candidate_rows, pruned=config.pruning.prunes), batch_format="pyarrow")


def _real_images_and_controls(caption_set: CaptionSet, candidates: Candidates, config: EvaluateConfig) -> Dataset:
    arguments = (config.run, config.seed, companion_dtype(config.dtype))
    real = _real_images(caption_set, candidates, config)
    return real.map_batches(MakeControls, fn_constructor_args=arguments, **_actors(config.controls))


def _training_images(
    source: SourceConfig, ids: Sequence[str], candidates: Candidates, config: EvaluateConfig
) -> Dataset:
    images = decoded_images(source, ids, config.run, str(candidates.directory / "unreadable_train"))
    return images.map_batches(partial(real_rows, "train"), batch_format="pyarrow")


def measure_joint_elb(caption_set: CaptionSet, candidates: Candidates, config: EvaluateConfig) -> list[Figure]:
    """Return figures of the evidence lower bound over the set's own images; none if it is not asked for."""
    if not (config.elb and caption_set.images):
        return []
    real = _real_images(caption_set, candidates, config)
    bits = real.map_batches(MeasureJointELB, fn_constructor_args=(config.run, config.seed), **_actors(config.controls))
    return list(joint_elb_figures(bits.iter_batches(batch_size=None, batch_format="pyarrow")))


def _real_images(caption_set: CaptionSet, candidates: Candidates, config: EvaluateConfig) -> Dataset:
    return decoded_images(caption_set.source, candidates.ids, config.run, str(candidates.directory / "unreadable"))


def _actors(pool: ActorPool) -> dict[str, Any]:
    """Return the arguments of ``map_batches`` that run a stage in ``pool``."""
    return {
        "compute": ActorPoolStrategy(size=pool.actors),
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus,
        "batch_size": pool.batch,
        "batch_format": "pyarrow",
    }
