"""The engine's version stands for its tokens: who changes them has to raise it."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from models.prior import Prior, PriorConfig
from t2i.engine import ENGINE_VERSION, Engine, Request
from t2i.sampling import SamplingParams

TOKENS = {3: "53931a365128fd0750d92d58602cdd6cb8b7272721b242b27eba9ecb5347338a"}
"""By version, the hash of the image tokens below."""


def test_other_tokens_have_another_version() -> None:
    torch.manual_seed(0)
    grid = {"grid_height": 8, "grid_width": 8, "codebook_size": 32}
    prior = Prior(PriorConfig(layers=3, heads=2, head_width=16, text_length=8, text_vocabulary=300, **grid)).eval()
    engine = Engine(prior, slots=4)
    engine.add(Request("plain", (1, 2), 2, seed=7))
    engine.add(Request("filtered", (3,), 1, seed=8, sampling=SamplingParams(0.8, 20, 0.9, 3.0), prefix=(4, 5, 6)))
    tokens: dict[tuple[str, int], np.ndarray] = {}
    while engine.has_work:
        tokens |= {(each.request_id, each.candidate): each.image_tokens for each in engine.step().finished}
    together = np.concatenate([tokens[key] for key in sorted(tokens)]).astype("<i4")
    assert TOKENS[ENGINE_VERSION] == hashlib.sha256(together.tobytes()).hexdigest()
