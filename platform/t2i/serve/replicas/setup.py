"""What computes for one model, and its sizes: read from the settings and the manifests, without loading weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from models.checkpoint import CONFIG, load_config_file
from models.dvae import DVAEConfig
from models.manifest import WEIGHTS, manifest_hashes, weights_hash
from models.prior import PriorConfig
from models.run_layout import RunLayout
from t2i.engine import ENGINE_VERSION
from t2i.serve.config import ReplicaConfig, ServeConfig
from t2i.serve.generation.receipt import Setup, StageSetup

PACKAGE = "t2i-platform"


@dataclass(frozen=True)
class ModelDescription:
    """A model as the service ``Models`` tells it.

    Attributes:
        image_side: width and height of its images, in pixels.
        codes: how many different image tokens there are.
        text_length: how many tokens of a caption are read.
        parameters: numbers in the weights, by stage.
    """

    setup: Setup
    image_side: int
    grid_height: int
    grid_width: int
    codes: int
    text_length: int
    parameters: dict[str, int]


def setup_of(config: ServeConfig) -> Setup:
    """Return what computes for the run of a configuration, in this process or in one like it.

    Raises:
        CheckpointError: a manifest is damaged.
    """
    layout, prior = RunLayout(config.run), config.prior
    slots = prior.settings.slots
    return Setup(
        tokenizer=_hash(layout.tokenizer),
        prior=_stage(layout.prior, prior, slots),
        decoder=_stage(layout.dvae, config.decoder, config.decode_batch_used),
        reranker=_stage(layout.clip, config.reranker, config.rank_batch),
        captions=min(prior.captions or slots, slots),
        compiled=prior.compile,
        engine=ENGINE_VERSION,
        package=_package_version(),
        torch=str(torch.__version__),
    )


def description_of(config: ServeConfig) -> ModelDescription:
    """Return the model of a configuration's run.

    Raises:
        CheckpointError: a manifest or a configuration is damaged.
    """
    layout = RunLayout(config.run)
    prior: PriorConfig = load_config_file(Path(layout.prior) / CONFIG, PriorConfig)
    dvae: DVAEConfig = load_config_file(Path(layout.dvae) / CONFIG, DVAEConfig)
    stages = {"prior": layout.prior, "decoder": layout.dvae, "reranker": layout.clip}
    return ModelDescription(
        setup_of(config),
        prior.grid_height * dvae.downsample,
        prior.grid_height,
        prior.grid_width,
        prior.codebook_size,
        prior.text_length,
        {name: numbers_in(Path(directory) / WEIGHTS) for name, directory in stages.items()},
    )


def numbers_in(weights: Path) -> int:
    """Return how many numbers a safetensors file holds, of which only the header is read."""
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def device_name(device: str) -> str:
    """Return the kind of a device as well: ``cpu AVX2``, or ``cuda`` with the GPU's name."""
    if device == "cuda" and torch.cuda.is_available():
        return f"cuda {torch.cuda.get_device_name()}"
    return f"{device} {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else device


def _stage(directory: str, replicas: ReplicaConfig, batch: int) -> StageSetup:
    return StageSetup(_hash(directory), replicas.dtype, device_name(replicas.device), batch, replicas.threads_used)


def _hash(directory: str) -> str:
    return weights_hash(manifest_hashes(Path(directory)))


def _package_version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:  # code on the path that was never installed
        return "unknown"
