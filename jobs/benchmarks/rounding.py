"""How much image tokens, images, scores and likelihoods change when computed in bfloat16 or int8, not float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.stats import spearmanr
from torch import Tensor

from held_out import HELD_OUT
from models.checkpoint import load_model
from models.dtypes import DTYPES, PRIOR_DTYPES
from models.dvae import DVAE, DVAEConfig
from models.images import to_float
from models.prior import Prior, PriorConfig, text_tensor
from models.prior.decoding.shared_text import Caption
from models.reranker import CLIPConfig, CLIPReranker
from models.run_layout import RunLayout
from models.run_sizes import run_sizes
from models.tokenizer import CaptionTokenizer
from t2i.data.transforms import decode_image


def agreement(tokens: Tensor, others: Tensor) -> str:
    """Return the share of equal image tokens, in percent."""
    return f"{(tokens == others).float().mean():.2%}"


def psnr(images: Tensor, others: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of images in [0, 1]."""
    return float(-10 * (images - others).square().mean().log10())


def compare_scores(exact: Tensor, rounded: Tensor) -> str:
    """Describe how far scores [n], or [captions, n], of n images are from exact ones."""
    pairs = list(zip(exact.view(-1, exact.shape[-1]), rounded.view(-1, exact.shape[-1]), strict=True))
    ranks = np.mean([spearmanr(*pair).statistic for pair in pairs])
    best = np.mean([bool(a.argmax() == b.argmax()) for a, b in pairs])
    error, spread = (rounded - exact).abs(), exact.std(dim=-1).mean()
    return (
        f"rank correlation {ranks:.4f}, same best image {best:.0%}, "
        f"cosines differ by {error.mean():.5f} on average, {error.max():.5f} at most, where they spread by {spread:.5f}"
    )


def trained_models(run: str, count: int) -> None:
    """Print what bfloat16 changes in a run's dVAE and CLIP, on the first ``count`` held-out embedded images."""
    rows = pq.read_table(HELD_OUT).slice(0, count)
    side = run_sizes(run).side
    images = to_float(np.stack([decode_image(data, side) for data in rows["image"].to_pylist()]))
    captions = [captions[0] for captions in rows["captions"].to_pylist()]
    directory = Path(run)
    dvaes = {d: load_model(DVAE, DVAEConfig, RunLayout(directory).dvae, dtype=d) for d in DTYPES}
    clips = {d: load_model(CLIPReranker, CLIPConfig, RunLayout(directory).clip, dtype=d) for d in DTYPES}
    print(f"\n## What bfloat16 changes in the trained run {directory.name}: {len(images)} held-out images of {side} px")
    compare_dvaes(dvaes, images)
    scores = {d: clip.encode_captions(captions) @ clip.encode_images(images).T for d, clip in clips.items()}
    print(f"scores: {compare_scores(scores['float32'], scores['bfloat16'])}")
    compare_priors(directory, captions, dvaes["float32"].encode(images))


@torch.inference_mode()
def compare_priors(run: Path, captions: Sequence[str], image_tokens: Tensor) -> None:
    """Print the likelihood that a run's prior gives image tokens int64 [B, N] of B captions in each dtype."""
    tokenizer, exact = CaptionTokenizer.load(run / "tokenizer"), None
    for dtype in PRIOR_DTYPES:
        prior = load_model(Prior, PriorConfig, run / "prior" / "model", dtype=dtype)
        texts = [tuple(tokenizer.encode(c, prior.layout.text_length).ids) for c in captions]
        log_p = decoded_log_probabilities(prior, texts, image_tokens)
        exact = log_p if exact is None else exact
        nats = -log_p.gather(-1, image_tokens[..., None]).mean()
        divergence = (exact.exp() * (exact - log_p)).sum(dim=-1).mean()
        print(f"prior in {dtype}: {nats:.4f} nats per image token, {divergence:.6f} nats from float32's distribution")


def decoded_log_probabilities(prior: Prior, texts: Sequence[Caption], image_tokens: Tensor) -> Tensor:
    """Return log-probabilities float32 [B, N, K] of image tokens int64 [B, N], as decoding with a cache has them."""
    rows, layout = torch.arange(len(texts)), prior.layout
    cache = prior.new_cache(len(texts), len(texts))
    prefixes = {text: layout.prefix(text_tensor([text], layout)) for text in texts}
    after_text = {text: prior.prefill_text(prefix, cache, text) for text, prefix in prefixes.items()}
    cache.text.assign({text: [row for row, of_row in enumerate(texts) if of_row == text] for text in after_text})
    hidden = [torch.stack([after_text[text] for text in texts])]
    for position in range(layout.image_length - 1):
        hidden.append(prior.decode(image_tokens[:, position], torch.full_like(rows, position), rows, cache))
    return prior.image_logits(torch.stack(hidden, dim=1)).float().log_softmax(dim=-1)


def compare_dvaes(dvaes: Mapping[str, DVAE], images: Tensor) -> None:
    """Print how far bfloat16's tokens and reconstructions of images [B, 3, H, W] in [0, 1] are from float32's."""
    exact, rounded = (dvaes[dtype] for dtype in ("float32", "bfloat16"))
    tokens = exact.encode(images)
    print(f"image tokens: {agreement(tokens, rounded.encode(images))} are float32's")
    decoded = {name: dvae.decode(tokens) for name, dvae in {"float32": exact, "bfloat16": rounded}.items()}
    apart = psnr(decoded["float32"], decoded["bfloat16"])
    near = {name: psnr(images, pictures) for name, pictures in decoded.items()}
    to_originals = f"{near['float32']:.3f} and {near['bfloat16']:.3f} dB"
    print(f"images: PSNR {apart:.1f} dB between both; to the originals {to_originals}")
