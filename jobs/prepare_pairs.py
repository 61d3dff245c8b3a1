r"""Curate captioned images: filter, remove duplicates, and drop what is also in an evaluation set.

    python jobs/prepare_pairs.py source.path=shards/ out=runs/pairs clip.model=runs/tiny/clip/model \
        'overlap.sets=[{name: val, source: {path: jobs/datasets/emoji64/val.parquet}}]'

Writes <out>/pairs, to be trained on by data.train.path=<out>/pairs, with <out>/report.html, report.json, and lists of
what was dropped (dropped.parquet) and of evaluation images with their nearest training images (overlap.parquet). A set
that is already there, from the same source by the same settings, is kept; after a change of bounds alone, the images
are not measured again (<out>/index).
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.checkpoint import CONFIG, load_config_file
from models.manifest import model_hash
from models.reranker import CLIPConfig
from models.settings import setting
from t2i import data
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
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
    """What to curate, by which rules, and what to write."""

    source: SourceConfig = setting(SourceConfig, "captioned images")
    out: str = setting("runs/pairs", "output directory, local or s3://")
    format: str = setting("parquet", "parquet or webdataset")
    rows_per_part: int = setting(1024, "pairs in each file")
    clip: CLIPSettings = setting(CLIPSettings, "the CLIP that finds what hashes cannot")
    shown: int = setting(12, "examples of each filter in the report")
    ray: RayConfig = setting(RayConfig, "where to run")

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}: use {' or '.join(FORMATS)}.")
        for field in ("rows_per_part", "shown"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}: use 1 or more.")


def main(config: PreparePairsConfig) -> None:
    protocol = describe(config)
    if is_whole(f"{config.out}/pairs", PAIR_SET, protocol):
        print(f"{config.out}/pairs: already complete", flush=True)
        return
    start_ray(config.ray)
    indexes = measure(config, protocol["clip"])
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


def describe(config: PreparePairsConfig) -> dict[str, Any]:
    """What decides the result, for the manifest and the report; refuses what cannot be read, before any work."""
    for source in [config.source, *(evaluation.source for evaluation in config.overlap.sets)]:
        data.check_pairs(source)
    rules = {name: asdict(getattr(config, name)) for name in ("images", "captions", "duplicates", "overlap")}
    return {
        "source": asdict(config.source),
        "rules": rules,
        "boilerplate": config.captions.patterns,
        "clip": clip_hash(config.clip.model) if config.clip.model else None,
        "format": config.format,
        "rows_per_part": config.rows_per_part,
    }


def clip_hash(model_dir: str) -> str:
    """The name of a CLIP's weights; refuses a directory that holds none."""
    local = fetch_directory(model_dir)
    name = model_hash(local)
    load_config_file(local / CONFIG, CLIPConfig)
    return name


def measure(config: PreparePairsConfig, clip: str | None) -> dict[str, str]:
    """Index the source and the evaluation sets; returns evaluation set (``""``: the source) -> its index."""
    sources = {"": config.source} | {evaluation.name: evaluation.source for evaluation in config.overlap.sets}
    indexes = {name: f"{config.out}/index/{'eval-' + name if name else 'source'}" for name in sources}
    for name, source in sources.items():
        make_index(source, indexes[name], config.clip, clip, say(indexes[name]))
    return indexes


def write(
    config: PreparePairsConfig, protocol: dict[str, Any], images: ImageMeasurements, decisions: Decisions, report: Report
) -> None:
    """Write the pairs; the report comes between their last part and the manifest that makes them count."""
    kept = images.id[decisions.kept]

    def finish(rows: int) -> None:
        if rows != len(kept):
            raise DataError(f"source.path {config.source.path} has changed meanwhile: run the job again.")
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
        progress=say(f"{config.out}/pairs"),
        before_manifest=finish,
    )
    print(f"{config.out}/pairs: complete, {len(kept)} of {len(images)} pairs; see {config.out}/report.html", flush=True)


def say(directory: str) -> Any:
    """TokenProgress of one directory as lines of output."""
    return lambda rows: print(f"{directory}: {rows} images", flush=True)


if __name__ == "__main__":
    run_job(main, PreparePairsConfig, "prepare_pairs")
