#!/usr/bin/env python
"""Turn the images of a run's train and val sets into image tokens with its trained dVAE.

    python jobs/encode_images.py run=runs/tiny data.train.path=jobs/datasets/emoji64/train.parquet

Writes <run>/tokens/{train,val}. A set that is complete and was made by the same dVAE from the same source is kept; one
that a killed job has begun is continued.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass
from typing import Any

import ray
from ray.data import ActorPoolStrategy, Dataset

from models.dtypes import DTYPE_MEANING, check_dtype
from models.run_layout import RunLayout
from models.settings import setting
from t2i import data
from t2i.cluster import RayConfig, start_ray
from t2i.config import recorded, run_job
from t2i.data import ROWS_PER_PART, PairSources, SourceConfig
from t2i.data.decode import VIEWS
from t2i.data.image_tokens import TokenizeImages, describe_dvae
from t2i.data.resume import FinishedRows
from t2i.data.run_record import trained_image_size


@dataclass
class EncodeImagesConfig:
    """What to encode, where to write it, and with how many dVAE replicas."""

    run: str = setting("runs/tiny", "run directory: reads dvae/model, writes tokens/", path="written")
    data: PairSources = setting(PairSources, "captioned images; the captions are stored with the image tokens")
    image_size: int | None = setting(
        None, "side of the encoded images in pixels; empty: the size that the run's dVAE was trained on", at_least=1
    )
    views: int = setting(0, "random views of each training image; 0: only its centre square", at_least=0)
    view: str = setting(
        "crops",
        "what views are. crops: by the paper's listing 2, of images larger than image_size; drawings: the image "
        "itself, then smaller, moved, and mirrored where its captions allow",
    )
    seed: int = setting(0, "random seed of the views", at_least=0)
    dtype: str | None = setting(None, f"{DTYPE_MEANING}; empty: bfloat16 where replicas have GPUs, else float32")
    batch_size: int = setting(128, "images per forward pass", at_least=1)
    rows_per_part: int = setting(
        ROWS_PER_PART, "the most images in a file; a killed job loses about this many per replica at most", at_least=1
    )
    actors: int = setting(1, "dVAE replicas", at_least=1)
    gpus_per_actor: float = setting(0.0, "GPUs of each replica", at_least=0)
    ray: RayConfig = setting(RayConfig, "the Ray cluster to use")

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"view is {self.view!r}: use {' or '.join(VIEWS)}.")


def main(config: EncodeImagesConfig) -> None:
    """Encode the training and the validation set, unless they are complete."""
    check_dtype(dtype(config))
    config.data.check()
    model_dir = RunLayout(config.run).dvae
    image_size = config.image_size or trained_image_size(config.run)
    dvae = describe_dvae(model_dir, image_size) | {"dtype": dtype(config)}
    start_ray(config.ray)
    for split, source in {"train": config.data.train, "val": config.data.val}.items():
        directory = f"{config.run}/tokens/{split}"
        views = config.views if split == "train" else 0
        metadata = dvae | {"source": recorded(source), "views": views, "seed": config.seed}
        metadata |= {"view": config.view} if views else {}
        if data.is_complete(directory, metadata):
            print(f"{directory}: already complete", flush=True)
        else:
            finished = data.find_finished_rows(directory, metadata)
            pixels = read(source, metadata, finished, f"{config.run}/tokens/unreadable_{split}", config)
            write(tokenize(pixels, model_dir, config), directory, metadata, finished, config)


def dtype(config: EncodeImagesConfig) -> str:
    """Return the number format that the dVAE computes in: the setting, or a default.

    With bfloat16, 1.5 % of the tokens differ from those with float32 (they are nearly ties). On a GPU its speed is
    worth that, so it is the default there. A CPU may even be slower with it; and with float32, CPUs agree with each
    other in all but one of a thousand tokens.
    """
    return config.dtype or ("bfloat16" if config.gpus_per_actor else "float32")


def read(
    source: SourceConfig, metadata: dict[str, Any], finished: FinishedRows, report: str, config: EncodeImagesConfig
) -> Dataset:
    """Return the pixels of the images that are not encoded yet: centre squares, or ``views`` random views of each.

    The rows are cut into small blocks, so that images are decoded in parallel even if the source is a single file, and
    part files are written while other images are still being encoded.
    """
    image_size, views = metadata["image_size"], metadata["views"]
    pairs = data.skip_finished(data.read_pairs(source, report), finished, views)
    pairs = pairs.repartition(target_num_rows_per_block=max(1, config.rows_per_part // max(1, views)))
    if views:
        decoded = data.decode_views(pairs, image_size, config.view, views, config.seed, report)
        return data.skip_finished(decoded, finished)  # a part file may end between two views of an image
    return data.decode_pairs(pairs, image_size, report)


def tokenize(pixels: Dataset, model_dir: str, config: EncodeImagesConfig) -> Dataset:
    """Replace pixels by image tokens, computed by actors that each hold the dVAE."""
    return pixels.map_batches(
        TokenizeImages,
        fn_constructor_args=(model_dir, dtype(config)),
        compute=ActorPoolStrategy(size=config.actors),
        num_cpus=cpus_per_actor(config.actors),
        num_gpus=config.gpus_per_actor,
        batch_size=config.batch_size,
        batch_format="pyarrow",
    )


def cpus_per_actor(actors: int) -> int:
    """Return the logical CPUs that each actor reserves: 1, or 0 if no CPU would be left for reading and decoding.

    Without a free CPU the tasks that read and decode would never start.
    """
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return 1 if resources.get("CPU", 0) > actors else 0


def write(
    image_tokens: Dataset, directory: str, metadata: dict[str, Any], finished: FinishedRows, config: EncodeImagesConfig
) -> None:
    """Run the pipeline, write its rows as image-token shards, and print the progress."""
    manifest = data.write_token_shards(
        image_tokens,
        directory,
        metadata=metadata,
        finished=finished,
        rows_per_part=config.rows_per_part,
        progress=lambda rows: print(f"{directory}: {rows} images", flush=True),
    )
    print(f"{directory}: complete, {manifest.rows} images by dVAE {metadata['dvae']}", flush=True)


if __name__ == "__main__":
    run_job(main, EncodeImagesConfig, "encode_images")
