"""The evidence lower bound on ln p(image, caption) over a caption set: a Ray Data stage, and figures from its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import torch

from models.checkpoint import load_model
from models.devices import default_device
from models.dvae import DVAE, DVAEConfig
from models.images import to_float
from models.joint import bits_per_dimension, joint_elb
from models.prior import Prior, PriorConfig, text_tensor
from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.data.tensors import column_array
from t2i.evaluate.figures import Figure
from t2i.evaluate.work_list import derived_seed

TERMS = ("total", "reconstruction", "image_tokens", "text_tokens", "entropy")
"""Attributes of :class:`models.joint.JointELB`: the bound, and the four terms whose sum it is."""


class MeasureJointELB:
    """A stage that maps real images {id, captions, pixels} to {id, total, reconstruction, ...} in bits per dimension.

    The sign is that of a cost: bits of -ELB, lower is better.
    """

    def __init__(self, run: str, seed: int) -> None:
        self.seed = seed
        self.tokenizer = CaptionTokenizer.load(RunLayout(run).tokenizer)
        self.dvae = load_model(DVAE, DVAEConfig, RunLayout(run).dvae, default_device())
        self.prior = load_model(Prior, PriorConfig, RunLayout(run).prior, default_device())

    def __call__(self, table: pa.Table) -> pa.Table:
        """Measure a batch; an image with several captions is measured with its first."""
        pixels, ids = column_array(table["pixels"]), table["id"].to_pylist()
        layout = self.prior.layout
        captions = [captions[0] for captions in table["captions"].to_pylist()]
        encoded = self.tokenizer.encode_batch(captions, layout.text_length)
        text = text_tensor([caption.ids for caption in encoded], layout).to(default_device())
        noise = torch.Generator(default_device()).manual_seed(derived_seed(self.seed, "\n".join(ids)))
        elb = joint_elb(self.dvae, self.prior, to_float(pixels).to(default_device()), text, noise)
        bits = {term: bits_per_dimension(getattr(elb, term), pixels[0].size).cpu().numpy() for term in TERMS}
        return pa.table({"id": ids} | bits)


def joint_elb_figures(batches: Iterable[pa.Table]) -> Iterator[Figure]:
    """Yield a figure ``elb_<term>`` for each term: mean over all images in bits per dimension, and standard error."""
    table = pa.concat_tables(batches)
    for term in TERMS:
        bits = np.asarray(table[term])
        error = float(bits.std() / len(bits) ** 0.5)
        yield Figure(f"elb_{term}", "real", None, float(bits.mean()), error, len(bits), 0)
