"""Turn the images of a run's train and val sets into image tokens with its trained dVAE.

    python jobs/encode_images.py run=runs/tiny data.train.path=jobs/datasets/emoji64/train.parquet

Writes <run>/tokens/{train,val}; a set that is already there, by the same dVAE from the same source, is kept.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import asdict, dataclass
from typing import Any

from ray.data import ActorPoolStrategy, Dataset

from models.presets import get_preset
from models.settings import setting
from t2i import data
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
from t2i.data import SourceConfig
from t2i.data.image_tokens import TokenizeImages, describe_dvae
from t2i.train import PairSources


@dataclass
class EncodeImagesConfig:
    """What to encode, where, and with how many workers."""

    preset: str = setting("tiny", "image size and model sizes: see models/presets.py")
    run: str = setting("runs/${preset}", "run directory: reads dvae/model, writes tokens/")
    data: PairSources = setting(PairSources, "captioned images; their captions go with the image tokens")
    views: int = setting(0, "random crops of each training image, by the paper's listing 2; 0: its centre square alone")
    seed: int = setting(0, "of the crops")
    batch_size: int = setting(128, "images per dVAE pass")
    actors: int = setting(1, "dVAE replicas")
    gpus_per_actor: float = setting(0.0, "GPUs each replica takes")
    ray: RayConfig = setting(RayConfig, "where to run")


def main(config: EncodeImagesConfig) -> None:
    config.data.check()
    model_dir = data.absolute(f"{config.run}/dvae/model")
    dvae = describe_dvae(model_dir, get_preset(config.preset).image_size)
    start_ray(config.ray)
    for split, source in {"train": config.data.train, "val": config.data.val}.items():
        directory = f"{config.run}/tokens/{split}"
        views = config.views if split == "train" else 0
        metadata = dvae | {"source": asdict(source), "views": views, "seed": config.seed}
        if data.is_complete(directory, metadata):
            print(f"{directory}: already complete", flush=True)
        else:
            pairs = read(source, dvae["image_size"], views, config.seed, f"{config.run}/tokens/unreadable_{split}")
            write(tokenize(pairs, model_dir, config), directory, metadata)


def read(source: SourceConfig, image_size: int, views: int, seed: int, report: str) -> Dataset:
    """The centre square of every image, or ``views`` random crops of it."""
    pairs = data.read_pairs(source)
    if views:
        return data.view_pairs(pairs, image_size, views, seed, report)
    return data.decode_pairs(pairs, image_size, report)


def tokenize(pairs: Dataset, model_dir: str, config: EncodeImagesConfig) -> Dataset:
    """Pixels -> image tokens, by actors that each hold the dVAE."""
    return pairs.map_batches(
        TokenizeImages,
        fn_constructor_args=(model_dir,),
        compute=ActorPoolStrategy(size=config.actors),
        num_gpus=config.gpus_per_actor,
        batch_size=config.batch_size,
        batch_format="pyarrow",
    )


def write(image_tokens: Dataset, directory: str, metadata: dict[str, Any]) -> None:
    """Run the pipeline into shards, saying how far it is."""
    manifest = data.write_token_shards(
        image_tokens,
        directory,
        metadata=metadata,
        progress=lambda rows: print(f"{directory}: {rows} images", flush=True),
    )
    print(f"{directory}: complete, {manifest.rows} images by dVAE {metadata['dvae']}", flush=True)


if __name__ == "__main__":
    run_job(main, EncodeImagesConfig, "encode_images")
