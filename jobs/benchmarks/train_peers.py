"""Training steps of our prior and of other implementations at its size, for jobs/benchmarks/bench_train.py.

Every step is forward, loss, backward, clipping and torch's fused AdamW, in bf16 autocast with fp32 random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.prior import Prior, PriorConfig, prior_loss
from peers import dalle, import_dalle_pytorch, llama


@dataclass(frozen=True)
class Trainee:
    """A model to train: its name and version, one training step, and the number of its parameters."""

    name: str
    step: Callable[[], None]
    parameters: int


def ours(shape: PriorConfig, batch: int) -> Trainee:
    """Return our prior to train: text and image logits only where needed, sparse attention where that is faster."""
    model = Prior(shape)
    text = torch.randint(shape.text_vocabulary, (batch, shape.text_length))
    image_tokens = _image_tokens(shape, batch)
    return _trainee("ours", model, lambda: prior_loss(model, text, image_tokens).loss)


def transformers_llama(shape: PriorConfig, batch: int) -> Trainee:
    """Return ``LlamaForCausalLM`` over the same stream, with one vocabulary and a loss at every position."""
    import transformers

    model = llama(shape)
    model.lm_head = nn.Linear(shape.width, shape.layout.vocabulary, bias=False)
    stream = torch.randint(shape.layout.vocabulary, (batch, shape.layout.length + 1))
    name = f"transformers {transformers.__version__}"
    return _trainee(name, model, lambda: model(stream, labels=stream, use_cache=False).loss)


def dalle_pytorch(shape: PriorConfig, batch: int) -> Trainee:
    """Return ``DALLE.forward(return_loss=True)`` with full attention, its default."""
    package = import_dalle_pytorch()
    model = dalle(package, shape)
    text = torch.randint(1, shape.text_vocabulary, (batch, shape.text_length))
    image_tokens = _image_tokens(shape, batch)
    return _trainee(f"dalle-pytorch {package.__version__}", model, lambda: model(text, image_tokens, return_loss=True))


def _image_tokens(shape: PriorConfig, batch: int) -> Tensor:
    return torch.randint(shape.codebook_size, (batch, shape.grid_height * shape.grid_width))


def _trainee(name: str, model: nn.Module, loss: Callable[[], Tensor]) -> Trainee:
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return Trainee(name, step, sum(parameter.numel() for parameter in parameters))
