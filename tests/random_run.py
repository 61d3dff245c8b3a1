"""A run directory of random models, small enough to draw an image in 64 quick steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from models.checkpoint import save_model
from models.dvae import DVAE, DVAEConfig
from models.prior import Prior, PriorConfig
from models.reranker import CLIPConfig, CLIPReranker
from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.storage import put_directory


def write_random_run(
    run: Path, captions: Sequence[str], text_length: int, clip: CLIPConfig, side: int = 8, seed: int = 0
) -> Path:
    """Write tokenizer, dVAE, prior and CLIP under ``run``, which is returned.

    Another ``seed`` gives other weights. Images have ``side`` x ``side`` tokens of 32 codes, and four times as many
    pixels a side.
    """
    torch.manual_seed(seed)
    layout = RunLayout(run)
    grid = {"grid_height": side, "grid_width": side, "codebook_size": 32}
    prior = PriorConfig(layers=3, heads=2, head_width=16, text_length=text_length, text_vocabulary=300, **grid)
    CaptionTokenizer.train(captions, vocabulary=300).save(layout.tokenizer)
    save_model(layout.dvae, DVAE(DVAEConfig(width=16, groups=3, codebook_size=32, decoder_input_width=16)))
    save_model(layout.prior, Prior(prior))
    save_model(layout.clip, CLIPReranker(clip))
    return run


def put_run(run: str | Path, uri: str) -> str:
    """Copy the four models of a run to ``uri``, which is returned."""
    for name, directory in RunLayout(run).models.items():
        put_directory(directory, RunLayout(uri).models[name])
    return uri
