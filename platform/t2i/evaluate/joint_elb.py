"""The evidence lower bound on ln p(image, caption) over a caption set: a stage, and figures from what it stores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from models.checkpoint import load_model
from models.devices import default_device
from models.dvae import DVAE, DVAEConfig
from models.images import to_float
from models.joint import bits_per_dimension, joint_elb
from models.prior import Prior, PriorConfig, text_tensor
from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.features import SUFFIX, FeatureFolder, npz_bytes
from t2i.evaluate.figures import Figure
from t2i.evaluate.shards import ShardFolder
from t2i.evaluate.work_list import derived_seed
from t2i.storage import fetch_run

TERMS = ("total", "reconstruction", "image_tokens", "text_tokens", "entropy")
"""Attributes of :class:`models.joint.JointELB`: the bound, and the four terms whose sum it is."""


class MeasureJointELB:
    """Store each term for a shard {shard, features, ids, captions, pixels} of real images, in bits per dimension.

    The sign is that of a cost: bits of -ELB, lower is better.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        self.seed = config.seed
        layout = RunLayout(fetch_run(config.run))
        self.tokenizer = CaptionTokenizer.load(layout.tokenizer)
        self.dvae = load_model(DVAE, DVAEConfig, layout.dvae, default_device())
        self.prior = load_model(Prior, PriorConfig, layout.prior, default_device())

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Measure and store a shard."""
        begun = time.perf_counter()
        pixels, ids = row["pixels"], list(row["ids"])
        layout = self.prior.layout
        encoded = self.tokenizer.encode_batch(list(row["captions"]), layout.text_length)
        text = text_tensor([caption.ids for caption in encoded], layout).to(default_device())
        noise = torch.Generator(default_device()).manual_seed(derived_seed(self.seed, "\n".join(ids)))
        elb = joint_elb(self.dvae, self.prior, to_float(pixels).to(default_device()), text, noise)
        bits: dict[str, Any] = {
            term: bits_per_dimension(getattr(elb, term), pixels[0].size).cpu().numpy() for term in TERMS
        }
        data = npz_bytes({"ids": np.array(ids, np.str_), **bits})
        ShardFolder(row["features"], SUFFIX).write(row["shard"], data, {"images": len(ids)})
        return {"images": len(ids), "controls_seconds": time.perf_counter() - begun}


def joint_elb_figures(measured: FeatureFolder) -> Iterator[Figure]:
    """Yield a figure ``elb_<term>`` for each term: mean over all images in bits per dimension, and standard error."""
    for term in TERMS:
        bits = measured.column(term)
        error = float(bits.std() / len(bits) ** 0.5)
        yield Figure(f"elb_{term}", "real", None, float(bits.mean()), error, len(bits), 0)
