#!/usr/bin/env python
r"""Curate captioned images: filter, remove duplicates, and drop what is also in an evaluation set.

    python jobs/prepare_pairs.py source.path=shards/ out=runs/pairs clip.model=runs/tiny/clip/model \
        'overlap.sets=[{name: val, source: {path: jobs/datasets/emoji64/val.parquet}}]'

Writes the pairs that are kept to <out>/pairs (train on them with data.train.path=<out>/pairs), a report to
<out>/report.html and report.json, the dropped images to dropped.parquet, and evaluation images with similar training
images to overlap.parquet. If <out>/pairs is complete and was made from the same source with the same settings, nothing
is done. The measurements of the images are kept in <out>/index, so changing only thresholds is fast.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.checkpoint import CONFIG, load_config_file
from models.manifest import model_hash
from models.reranker import CLIPConfig
from models.settings import setting
from t2i import data
from t2i.cluster import RayConfig, start_ray
from t2i.config import recorded, run_job
from t2i.curate import CLIPSettings, CurationRules
from t2i.curate.decisions import Decisions, decide
from t2i.curate.examples import ThumbnailLookup
from t2i.curate.gather import ImageMeasurements, concatenate, gather_evaluation, gather_images
from t2i.curate.index import make_index
from t2i.curate.output import PAIR_SET, id_keys, write_pairs
from t2i.curate.report import Report, make_report, write_report
from t2i.data import SourceConfig
from t2i.data.part_files import is_whole
from t2i.storage import DataError, fetch_directory

FORMATS = ("parquet", "webdataset")


@dataclass
class PreparePairsConfig(CurationRules):
    """What to curate, by which rules, and where to write the result."""

    source: SourceConfig = setting(SourceConfig, "captioned images")
    out: str = setting("runs/pairs", "output directory, local or s3://", path="written")
    format: str = setting("parquet", "parquet or webdataset")
    rows_per_part: int = setting(1024, "the most pairs in a file", at_least=1)
    clip: CLIPSettings = setting(CLIPSettings, "the CLIP that finds near-duplicates which hashes miss")
    shown: int = setting(12, "the most examples of each filter in the report", at_least=1)
    ray: RayConfig = setting(RayConfig, "the Ray cluster to use")

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}: use {' or '.join(FORMATS)}.")


def main(config: PreparePairsConfig) -> None:
    """Index the images, decide which to keep, and write them with a report."""
    protocol = make_protocol(config)
    if is_whole(f"{config.out}/pairs", PAIR_SET, protocol):
        print(f"{config.out}/pairs: already complete", flush=True)
        return
    start_ray(config.ray)
    indexes = make_indexes(config, protocol["clip"])
    images, captions = gather_images(indexes[""], config.captions)
    evaluation = {name: gather_evaluation(path, name) for name, path in indexes.items() if name}
    decisions = decide(images, captions, concatenate(list(evaluation.values())), config)
    report = make_report(
        images,
        captions,
        decisions,
        config,
        ThumbnailLookup(indexes),
        protocol=protocol,
        evaluation_sizes={name: len(found) for name, found in evaluation.items()},
        shown=config.shown,
    )
    write(config, protocol, images, decisions, report)


def make_protocol(config: PreparePairsConfig) -> dict[str, Any]:
    """Return all settings that the result depends on, for the manifest and the report; check that all can be read."""
    for source in [config.source, *(evaluation.source for evaluation in config.overlap.sets)]:
        data.check_pairs(source)
    rules = {name: recorded(getattr(config, name)) for name in ("images", "captions", "duplicates", "overlap")}
    return {
        "source": recorded(config.source),
        "rules": rules,
        "boilerplate": config.captions.patterns,
        "clip": clip_hash(config.clip.model) if config.clip.model else None,
        "format": config.format,
        "rows_per_part": config.rows_per_part,
    }


def clip_hash(model_dir: str) -> str:
    """Return the hash of a CLIP's weights.

    Raises:
        CheckpointError: the directory does not hold a complete CLIP.
    """
    local = fetch_directory(model_dir)
    name = model_hash(local)
    load_config_file(local / CONFIG, CLIPConfig)
    return name


def make_indexes(config: PreparePairsConfig, clip: str | None) -> dict[str, str]:
    """Index the source and the evaluation sets; return the directories of the indexes by set (``""``: the source)."""
    sources = {"": config.source} | {evaluation.name: evaluation.source for evaluation in config.overlap.sets}
    indexes = {name: f"{config.out}/index/{'eval-' + name if name else 'source'}" for name in sources}
    for name, source in sources.items():
        make_index(source, indexes[name], config.clip, clip, print_progress(indexes[name]))
    return indexes


def write(
    config: PreparePairsConfig,
    protocol: dict[str, Any],
    images: ImageMeasurements,
    decisions: Decisions,
    report: Report,
) -> None:
    """Write the pairs, then the report, and last the manifest that makes the set of pairs complete."""
    kept = images.id[decisions.kept]

    def finish(rows: int) -> None:
        if rows != len(kept):
            raise DataError(f"source.path {config.source.path} has changed since it was indexed: run the job again.")
        write_report(config.out, report, images, decisions)

    write_pairs(
        config.source,
        f"{config.out}/pairs",
        config.format,
        kept=id_keys(kept),
        frequent=np.sort(decisions.frequent),
        rules=config.captions,
        rows_per_part=config.rows_per_part,
        metadata=protocol,
        progress=print_progress(f"{config.out}/pairs"),
        before_manifest=finish,
    )
    print(f"{config.out}/pairs: complete, {len(kept)} of {len(images)} pairs; see {config.out}/report.html", flush=True)


def print_progress(directory: str) -> Callable[[int], None]:
    """Return a function that prints the number of images done for ``directory``."""
    return lambda rows: print(f"{directory}: {rows} images", flush=True)


if __name__ == "__main__":
    run_job(main, PreparePairsConfig, "prepare_pairs")
