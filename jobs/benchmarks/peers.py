"""Other implementations of the sampler, timed for the benchmarks on random weights of our prior's shape.

    peer = hf_static_cache(prior_config, batch=16, dtype="bfloat16", steps=16)
    print(peer.name, peer.seconds_per_step())

Each function here builds its model once; call the ``seconds_per_step`` of all implementations in turn.
A step is one image token of every stream of the batch: forward, sampling and the bookkeeping between two tokens. No
figure includes the prompt's prefill or the decoding of the image. Steps of a process's first call are slower: drop it.

The packages are imported by the functions that need them; ``make bench-peers`` makes the environment that has them.
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import UserError
from models.prior import PriorConfig


class MissingPeerError(UserError):
    """The package of another implementation is not installed."""


@dataclass(frozen=True)
class Peer:
    """Another implementation, named with version and dtype, and a function that times a window of its steps."""

    name: str
    seconds_per_step: Callable[[], float]


@dataclass
class Clock:
    """Records the time at the beginning of each of ``steps`` steps and at the end of the last."""

    steps: int
    stamps: list[float] = field(default_factory=list)

    def stamp(self) -> bool:
        """Record the time, and return whether all steps are over."""
        self.stamps.append(time.perf_counter())
        return len(self.stamps) > self.steps

    @property
    def seconds_per_step(self) -> float:
        """Mean time of a step."""
        return (self.stamps[-1] - self.stamps[0]) / (len(self.stamps) - 1)


def hf_static_cache(shape: PriorConfig, batch: int, dtype: str, steps: int, device: str = "cpu") -> Peer:
    """Return transformers' ``LlamaForCausalLM.generate`` with a static cache as a peer; it is stopped early.

    The call is the one that would draw whole images, from a random prompt of the text's length, with the cache of the
    whole stream allocated; a stopping criterion is the clock, and ends it ``steps`` tokens after the first. A static
    cache is attended to its full length at every step (empty places are masked, not skipped), so a step costs the same
    anywhere in the image: there is nothing to extrapolate. The vocabulary has our sizes, 8192 logits of a paper's
    shape; top-k is off. On a CPU ``generate`` does not compile; on a GPU it does, and waits for it once a step.
    """
    import transformers

    with torch.device(device):
        model = llama(shape).to(getattr(torch, dtype))

    def measure() -> float:
        prompt = torch.randint(shape.text_vocabulary, (batch, shape.text_length), device=device)
        clock = Clock(steps)

        def stop(input_ids: Tensor, *_: object, **__: object) -> Tensor:
            return torch.full((len(input_ids),), clock.stamp(), device=device)

        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=shape.grid_height * shape.grid_width,
            cache_implementation="static",
            do_sample=True,
            top_k=0,
            stopping_criteria=transformers.StoppingCriteriaList([stop]),
        )
        return clock.seconds_per_step

    return Peer(f"transformers {transformers.__version__}, static cache, {dtype}", measure)


def dalle_pytorch(shape: PriorConfig, batch: int, steps: int) -> Peer:
    """Return dalle-pytorch's ``DALLE.generate_images`` as shipped: fp32, full attention, token shift, rotary embedding.

    As shipped it keeps no keys and values: ``use_cache`` is off by default, and in 1.6.6 ``forward_with_cond_scale``
    drops the cache whenever there is no guidance. Every token is a forward of the whole stream so far, with logits at
    every position (``batch`` x 1280 x 24832 floats for a paper's grid: 2 GB at 16), so a step's cost grows along the
    image, in parts as the length and as its square. Hence two windows of ``steps`` steps, around the nodes of two-point
    Gauss-Legendre quadrature at 21 % and 79 % of the image, whose mean is the mean over the whole image for any cost
    up to cubic. ``generate_images`` is primed with that much of a random image; its encoding is not timed, and the VAE
    is a tiny one. Borders of a step are the beginnings of consecutive forwards.
    """
    package = import_dalle_pytorch()
    model = dalle(package, shape)
    image_length = shape.grid_height * shape.grid_width
    nodes = [image_length * (1 + sign / math.sqrt(3)) / 2 for sign in (-1, 1)]
    starts = [max(0, round(node - steps / 2)) for node in nodes]

    def measure() -> float:
        return sum(_dalle_window(model, shape, batch, start, steps) for start in starts) / len(starts)

    return Peer(f"dalle-pytorch {package.__version__}, as shipped, float32", measure)


class _WindowOverError(Exception):
    """Leaves the loop of ``generate_images``, which has no way to stop early."""


def _dalle_window(model: Any, shape: PriorConfig, batch: int, start: int, steps: int) -> float:
    """Return the seconds per step over ``steps`` steps after ``start`` image tokens."""
    clock = Clock(steps)

    def before_forward(*_: object) -> None:
        if clock.stamp():
            raise _WindowOverError

    text = torch.randint(1, shape.text_vocabulary, (batch, shape.text_length))
    image = torch.rand(batch, 3, model.vae.image_size, model.vae.image_size)
    hook = model.register_forward_pre_hook(before_forward)
    try:
        model.generate_images(text, img=image, num_init_img_tokens=start)
    except _WindowOverError:
        return clock.seconds_per_step
    finally:
        hook.remove()
    raise UserError(f"{steps} steps do not fit into the image after its token {start}: take fewer.")


def llama(shape: PriorConfig) -> Any:
    """Return a Llama with as many weights per layer as our block, the ids of our stream, and logits of image tokens."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=shape.width,
        # Three matrices for our two of 4 D: 1365.3 at D = 512, where 1376 is 0.8 % more weights but faster in bf16.
        intermediate_size=32 * round(8 * shape.width / 3 / 32),
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_width,
        vocab_size=shape.layout.vocabulary,
        max_position_embeddings=shape.layout.length,
        bos_token_id=None,
        eos_token_id=None,  # every image has all its tokens
        pad_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.lm_head = nn.Linear(shape.width, shape.codebook_size, bias=False)
    return model


def dalle(package: Any, shape: PriorConfig) -> Any:
    """Return dalle-pytorch's model of our sizes, with its own defaults for the rest.

    Its MLP is gated: 12 D² weights a layer where ours and Llama's have 8 D².
    """
    if shape.grid_height != shape.grid_width:
        raise UserError("dalle-pytorch draws square grids only: compare it at a preset with one.")
    vae = package.DiscreteVAE(
        image_size=8 * shape.grid_height, num_layers=3, num_tokens=shape.codebook_size, codebook_dim=8, hidden_dim=8
    )
    return package.DALLE(
        dim=shape.width,
        vae=vae,
        num_text_tokens=shape.text_vocabulary,
        text_seq_len=shape.text_length,
        depth=shape.layers,
        heads=shape.heads,
        dim_head=shape.head_width,
        attn_types=("full",),
    )


# dalle-pytorch imports these at its top, and our way through it never uses them: taming-transformers is for the class
# VQGanVAE, which we do not make, and brings a training framework; pkg_resources left setuptools with version 82.
_UNUSED = {
    "taming": (),
    "taming.models": (),
    "taming.models.vqgan": ("VQModel", "GumbelVQ"),
    "pkg_resources": ("get_distribution",),
}


def import_dalle_pytorch() -> Any:
    """Import dalle-pytorch, with empty modules in the place of those in :data:`_UNUSED`, which are removed afterwards.

    Raises:
        MissingPeerError: it, or another module that it needs, is not installed.
    """
    stand_ins = {name: _stand_in(name, names) for name, names in _UNUSED.items() if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module("dalle_pytorch")
    except ModuleNotFoundError as error:
        raise MissingPeerError(f"{error.name} is not installed here: run this by `make bench-peers`.") from error
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _stand_in(name: str, names: tuple[str, ...]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(dict.fromkeys(names))
    return module
