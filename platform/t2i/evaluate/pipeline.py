"""The two passes of an evaluation over Ray Data: draw and rank candidates, then describe images by features."""

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
from models.presets import get_preset
from t2i.data import SourceConfig, decode_pairs, read_captions, read_pairs
from t2i.evaluate.candidates import Candidates, candidate_files, finished_ids, read_candidates
from t2i.evaluate.config import CaptionSet, EvaluateConfig, Pool
from t2i.evaluate.feature_sets import FeatureSet, gather
from t2i.evaluate.figures import Figure
from t2i.evaluate.joint import MeasureJointELB, joint_figures
from t2i.evaluate.stages import ExtractFeatures, Generate, MakeControls, Score, candidate_rows, keep_ids, real_rows
from t2i.evaluate.work_list import WorkItem, WorkList, sample_captions
from t2i.logs import get_logger

log = get_logger("evaluate")


def generate_candidates(work_list: WorkList, directory: Path, config: EvaluateConfig) -> Candidates:
    """Draw, rank and store what ``directory`` does not hold yet; return all of it.

    Raises:
        IncompleteEvaluation: results are missing although the pipeline ended.
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
    if not pending:
        return []
    rows, size = [asdict(item) for item in pending], config.generate.batch
    blocks = [pa.Table.from_pylist(rows[start : start + size]) for start in range(0, len(rows), size)]
    drawing = (config.run, work_list.candidates, config.sampling, config.slots)
    generator, scorer = (*drawing, config.dtype, config.pruning, config.compile), (config.run, str(directory))
    scored = (
        ray.data.from_arrow(blocks)
        .map_batches(Generate, fn_constructor_args=generator, **_options(config.generate))
        .map_batches(Score, fn_constructor_args=(*scorer, companion_dtype(config.dtype)), **_options(config.score))
    )
    return scored.iter_batches(batch_size=None, batch_format="pyarrow")


def extract_features(
    caption_set: CaptionSet, candidates: Candidates, shown: Sequence[str], config: EvaluateConfig
) -> dict[str, FeatureSet]:
    """Features of every image set by name: best, first (unless pruned); real, reconstruction, random_tokens; train."""
    files = candidate_files(candidates.directory)
    drawn = ray.data.read_parquet(files).select_columns(["id", "image", "candidate", "rank"])
    images = [drawn.map_batches(partial(candidate_rows, pruned=config.pruning.prunes), batch_format="pyarrow")]
    if caption_set.images:
        real = _pixels(caption_set.source, candidates.ids, candidates.directory / "unreadable", config)
        controls = (config.run, config.seed, companion_dtype(config.dtype))
        images.append(real.map_batches(MakeControls, fn_constructor_args=controls, **_options(config.controls)))
    if caption_set.images and config.floor is not None:
        chosen = sample_captions(read_captions(config.floor), config.floor_images, config.seed)
        train = _pixels(config.floor, [c.id for c in chosen], candidates.directory / "unreadable_train", config)
        images.append(train.map_batches(partial(real_rows, "train"), batch_format="pyarrow"))
    extractor = (
        config.run,
        config.extractor,
        tuple(config.blur_radii),
        frozenset(shown),
        companion_dtype(config.dtype),
    )
    features = reduce(Dataset.union, images).map_batches(
        ExtractFeatures, fn_constructor_args=extractor, **_options(config.extract)
    )
    return gather(features.iter_batches(batch_size=None, batch_format="pyarrow"))


def measure_joint_elb(caption_set: CaptionSet, candidates: Candidates, config: EvaluateConfig) -> list[Figure]:
    """The bound on ln p(image, caption) over the set's own images; nothing unless it is asked for."""
    if not (config.elb and caption_set.images):
        return []
    real = _pixels(caption_set.source, candidates.ids, candidates.directory / "unreadable", config)
    stage = (config.run, config.seed)
    bits = real.map_batches(MeasureJointELB, fn_constructor_args=stage, **_options(config.controls))
    return list(joint_figures(bits.iter_batches(batch_size=None, batch_format="pyarrow")))


def _pixels(source: SourceConfig, ids: Sequence[str], report: Path, config: EvaluateConfig) -> Dataset:
    """Decoded images {id, captions, pixels} of some rows of a source."""
    pairs = read_pairs(source).map_batches(partial(keep_ids, frozenset(ids)), batch_format="pyarrow")
    return decode_pairs(pairs, get_preset(config.preset).image_size, str(report))


def _options(pool: Pool) -> dict[str, Any]:
    return {
        "compute": ActorPoolStrategy(size=pool.actors),
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus,
        "batch_size": pool.batch,
        "batch_format": "pyarrow",
    }
