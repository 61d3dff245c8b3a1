"""The step as a GPU would run it, at the paper's sizes: every shape, and no memory."""

from __future__ import annotations

import pytest
import torch

from models.presets import get_preset
from models.prior import Prior


@pytest.mark.parametrize("preset", ["1b", "12b"])
@torch.inference_mode()
def test_a_step_on_meta_tensors(preset: str) -> None:
    with torch.device("meta"):
        prior = Prior(get_preset(preset).prior).bfloat16()
    cache = prior.new_cache(slots=512, captions=2, window=16)
    cache.make_static()
    tokens = torch.zeros(512, dtype=torch.long, device="meta")
    hidden = prior.decode(tokens, tokens, tokens, cache)
    assert hidden.shape == (512, prior.config.width)
    assert prior.image_logits(hidden).shape == (512, 8192)
