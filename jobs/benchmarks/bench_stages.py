"""Time the dVAE's encoder and decoder and the reranker, and compare them with lower bounds and other implementations.

    python jobs/benchmarks/bench_stages.py                        ours and open_clip
    python jobs/benchmarks/bench_stages.py peers=true             also the package dall-e          (make bench-peers)
    python jobs/benchmarks/bench_stages.py run=runs/tiny          also what bfloat16 changes in a trained run

All implementations in a table have the same random weights and are timed in turn. Times are medians per image, and
ratios are relative to the first row. Keep the results in docs/benchmarks.md, with a description of the machine.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness import gemm_flops, machine, timed
from memory import peak_memory
from models.dtypes import DTYPES
from models.dvae import DVAE, DVAEConfig
from models.dvae.released import rename
from models.errors import UserError
from models.images import to_float
from models.precision import TORCH_DTYPES, cast_for_inference
from models.reranker import CLIPConfig, CLIPReranker
from models.settings import setting
from rounding import agreement, compare_dvaes, compare_scores, trained_models
from t2i.config import run_job

CAPTION = "an armchair in the shape of an avocado"

ModelT = TypeVar("ModelT", bound=nn.Module)
Runs = dict[str, Callable[[], Tensor]]


@dataclass
class BenchStages:
    """The sizes of inputs and models, and what to time."""

    batch: int = setting(4, "images that the dVAE encodes or decodes", at_least=1)
    size: int = setting(256, "side of these images in pixels", at_least=1)
    candidates: int = setting(64, "images that the reranker scores for one caption", at_least=1)
    rank_batch: int = setting(64, "images that the reranker encodes at once", at_least=1)
    architecture: str = setting("ViT-B-32", "the reranker's open_clip architecture")
    repeats: int = setting(5, "timed runs of each implementation, in turn; the median is printed", at_least=1)
    threads: int = setting(2, "CPU threads", at_least=1)
    peers: bool = setting(False, "also time the package dall-e, and use its random weights for our dVAE")
    run: str | None = setting(
        None, "also print what bfloat16 changes in the dVAE and CLIP of this run directory; empty: do not", path="read"
    )


@torch.no_grad()
def main(config: BenchStages) -> None:
    """Print all tables."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    rates = {name: gemm_flops(TORCH_DTYPES[name], size=2048) for name in DTYPES}
    print(f"{machine()}, open_clip {open_clip.__version__}")
    print("large matrix products: " + ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items()))
    dalle = Dalle() if config.peers else None
    dvae = DVAE(DVAEConfig(code_std=1.0)).eval()  # codes that matter: with the paper's 1/sqrt(K), all images are grey
    if dalle:
        dvae.load_state_dict(dalle.our_weights())
    dvaes = in_each_format(dvae)
    encode(config, dvaes, dalle, rates)
    decode(config, dvaes, dalle, rates)
    rank(config, rates)
    if config.run:
        trained_models(config.run, count=256)


def encode(config: BenchStages, dvaes: Mapping[str, DVAE], dalle: Dalle | None, rates: Mapping[str, float]) -> None:
    """Print the table of encoding images as image tokens."""
    images = pictures(config.batch, config.size)
    runs: Runs = {dalle.name: partial(dalle.encode, images)} if dalle else {}
    runs |= {f"ours, {dtype}": partial(dvae.encode, images) for dtype, dvae in dvaes.items()}
    dvae = dvaes["float32"]
    logits = 2 * dvae.encoder.logits.weight.numel() * (config.size // dvae.config.downsample) ** 2
    work = Work(flops(lambda: dvae.encode_logits(images[:1])), in_float32=logits)
    table(f"Encode {config.batch} images of {config.size} px", runs, work, rates, config.batch, config.repeats)
    if dalle:
        print(f"float32: {agreement(dvae.encode(images), dalle.encode(images))} of the image tokens are dall-e's")
    compare_dvaes(dvaes, images)


def decode(config: BenchStages, dvaes: Mapping[str, DVAE], dalle: Dalle | None, rates: Mapping[str, float]) -> None:
    """Print the table of decoding image tokens."""
    dvae = dvaes["float32"]
    side = config.size // dvae.config.downsample
    tokens = torch.randint(dvae.config.codebook_size, (config.batch, side * side))
    grids = tokens.unflatten(1, (side, side))
    runs: Runs = {dalle.name: partial(dalle.decode, grids)} if dalle else {}
    runs |= {f"ours, {dtype}": partial(model.decode, tokens) for dtype, model in dvaes.items()}
    work = Work(flops(lambda: dvae.decoder.from_tokens(grids[:1])))
    table(f"Decode {config.batch} images of {config.size} px", runs, work, rates, config.batch, config.repeats)
    if dalle:
        apart = (runs["ours, float32"]() - runs[dalle.name]()).abs().max()
        print(f"float32: pixels in [0, 1] differ from dall-e's by {apart:.1e} at most")


def rank(config: BenchStages, rates: Mapping[str, float]) -> None:
    """Print the table of scoring images uint8 for one caption."""
    peer, _, preprocess = open_clip.create_model_and_transforms(config.architecture)
    tokenize = open_clip.get_tokenizer(config.architecture)
    clip = CLIPReranker(CLIPConfig(architecture=config.architecture)).eval()
    clip.clip.load_state_dict(peer.eval().state_dict())
    clips = in_each_format(clip)
    images = pictures(config.candidates, config.size).mul(255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    name = f"open_clip {open_clip.__version__}, float32, caption encoded per image"
    runs: Runs = {name: partial(score_by_open_clip, peer, preprocess, tokenize, images)}
    runs |= {f"ours, {dtype}": partial(score, model, images, config.rank_batch) for dtype, model in clips.items()}
    one = to_float(images[:1])
    caption = flops(lambda: clip.clip.encode_text(clip.tokenize([CAPTION]))) / config.candidates
    work = Work(flops(lambda: clip.clip.encode_image(clip.prepare(one))) + caption)
    title = f"Score {config.candidates} images of {config.size} px for one caption by {config.architecture}"
    table(title, runs, work, rates, config.candidates, config.repeats)
    exact, rounded, theirs = (runs[key]() for key in ("ours, float32", "ours, bfloat16", name))
    print(f"float32: cosines differ from open_clip's by {(exact - theirs).abs().max():.1e} at most (PIL rounds pixels)")
    print(f"bfloat16: {compare_scores(exact, rounded)}")


@dataclass(frozen=True)
class Work:
    """FLOP of one image, and how many of them are always computed in float32, whatever the model's dtype."""

    flops: float
    in_float32: float = 0

    def bound(self, dtype: str, rates: Mapping[str, float]) -> float:
        """Return the seconds of an image at the speed of a large matrix product."""
        return self.in_float32 / rates["float32"] + (self.flops - self.in_float32) / rates[dtype]


def table(title: str, runs: Runs, work: Work, rates: Mapping[str, float], images: int, repeats: int) -> None:
    """Print the bounds, then each candidate's time, share of its bound, peak memory and speed over the first's."""
    print(f"\n## {title}")
    bounds = {dtype: work.bound(dtype, rates) for dtype in DTYPES}
    seconds = {name: value / images for name, value in timed(runs, repeats, title).items()}
    first = next(iter(seconds.values()))
    print(f"{work.flops / 1e9:.1f} GFLOP an image")
    for dtype, bound in bounds.items():
        print(f"{f'bound, {dtype}':<60}{1e3 * bound:>9.1f} ms an image")
    for name, value in seconds.items():
        bound = bounds["bfloat16" if "bfloat16" in name else "float32"]
        memory = f"{peak_memory(runs[name]) / 1e6:>6.0f} MB"
        print(
            f"{name:<60}{1e3 * value:>9.1f} ms an image {bound / value:>5.0%} of bound {memory} {first / value:>6.2f} x"
        )


def in_each_format(model: ModelT) -> dict[str, ModelT]:
    """Return a copy of a model for each dtype, cast as it is for inference."""
    return {name: cast_for_inference(copy.deepcopy(model), name) for name in DTYPES}


def pictures(count: int, side: int) -> Tensor:
    """Return images float32 [count, 3, side, side] in [0, 1]: the sum of coarse and of fine noise."""
    coarse, fine = (torch.rand(count, 3, grain, grain) for grain in (8, side))
    return F.interpolate(coarse, size=(side, side), mode="bilinear").mul(0.8).add(0.2 * fine)


@torch.enable_grad()
def flops(run: Callable[[], object]) -> int:
    """Return the FLOP of ``run``; with gradients, since the fused inference kernels are not counted."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def score(clip: CLIPReranker, images: np.ndarray, batch: int) -> Tensor:
    """Return our cosines float32 [n] of images uint8 [n, H, W, 3]; the caption is encoded once."""
    features = torch.cat([clip.encode_images(part) for part in to_float(images).split(batch)])
    return features @ clip.encode_captions([CAPTION])[0]


def score_by_open_clip(clip: Any, preprocess: Any, tokenize: Any, images: np.ndarray) -> Tensor:
    """Return open_clip's cosines float32 [n] of images uint8 [n, H, W, 3]; the caption is encoded n times."""
    features = clip.encode_image(torch.stack([preprocess(Image.fromarray(image)) for image in images]), normalize=True)
    return (features * clip.encode_text(tokenize([CAPTION] * len(images)), normalize=True)).sum(dim=1)


class Dalle:
    """OpenAI's package ``dall-e`` with random weights, used as in its notebook."""

    def __init__(self) -> None:
        try:
            import dall_e
        except ModuleNotFoundError as error:
            raise UserError(f"{error.name} is not installed here: run this by `make bench-peers`.") from error
        self.package, self.encoder, self.decoder = dall_e, dall_e.Encoder().eval(), dall_e.Decoder().eval()
        self.decoder.blocks.input.w.normal_(std=1.0)
        self.name = f"dall-e {version('dall-e')}, float32"

    def our_weights(self) -> dict[str, Tensor]:
        """Return its weights under our names."""
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        named = {f"{part}.{name}": tensor for part, net in parts.items() for name, tensor in net.named_parameters()}
        return {rename(name, DVAEConfig().blocks_per_group): tensor for name, tensor in named.items()}

    def encode(self, images: Tensor) -> Tensor:
        """Return the image tokens int64 [B, N] of images [B, 3, H, W] in [0, 1]."""
        return self.encoder(self.package.map_pixels(images)).argmax(dim=1).flatten(1)

    def decode(self, image_tokens: Tensor) -> Tensor:
        """Return the images float32 [B, 3, H, W] of image tokens int64 [B, h, w]."""
        one_hot = F.one_hot(image_tokens, num_classes=self.encoder.vocab_size).permute(0, 3, 1, 2).float()
        return self.package.unmap_pixels(torch.sigmoid(self.decoder(one_hot).float()[:, :3]))


if __name__ == "__main__":
    run_job(main, BenchStages, "bench_stages")
