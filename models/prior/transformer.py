"""The prior: a decoder-only transformer with row, column and convolutional attention (paper section 2.2).

One :meth:`Prior.forward` serves training (whole streams) and decoding (one image token of every slot of a cache).
The paper does not state weight initialisation, GELU variant or norm placement ("the same kind as Child et al. 2019");
ours are GPT-2's: pre-norm, N(0, 0.02), residual projections scaled by 1 / sqrt(2 layers), tanh GELU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import UserError
from models.gradient_scaling import Residual, fp16_forbidden
from models.precision import PRIOR_DTYPES
from models.prior.attention import SPARSE_MIN_LENGTH, DenseAttention, FlexAttention, LocalAttention
from models.prior.decoding.kv_cache import AttentionFn, KVCache
from models.prior.decoding.packed import Int8Linear, PackedLinear, pack
from models.prior.decoding.shared_text import Caption
from models.prior.masks import layer_kind
from models.prior.stream import StreamLayout
from models.settings import setting


@dataclass
class PriorConfig:
    """Sizes of the prior; the defaults are the paper's 12 B model."""

    layers: int = setting(64, "transformer layers")
    heads: int = setting(62, "attention heads")
    head_width: int = setting(64, "width of one head; the model is heads x head_width wide")
    text_length: int = setting(256, "T, text positions; shorter captions are filled with learned pads")
    text_vocabulary: int = setting(16384, "BPE tokens")
    grid_height: int = setting(32, "image-token rows")
    grid_width: int = setting(32, "image-token columns")
    codebook_size: int = setting(8192, "K, image tokens of the dVAE")

    @property
    def width(self) -> int:
        """D, the width of the residual stream."""
        return self.heads * self.head_width

    @property
    def layout(self) -> StreamLayout:
        return StreamLayout(
            self.text_length, self.text_vocabulary, (self.grid_height, self.grid_width), self.codebook_size
        )


class Attention(nn.Module):
    """Multi-head attention; who sees whom is ``attend``'s."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, attend: AttentionFn) -> Tensor:
        """[B, P, D] -> [B, P, D]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm attention and MLP, each a residual."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        width = config.width
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.add_attention = Residual(self.attention_norm, self.attention)
        self.add_mlp = Residual(self.mlp_norm, self.mlp)

    def forward(self, x: Tensor, attend: AttentionFn) -> Tensor:
        x = self.add_attention(x, lambda x: self.attention(self.attention_norm(x), attend))
        return self.add_mlp(x, lambda x: self.mlp(self.mlp_norm(x)))


class Prior(nn.Module):
    """p(image tokens, text) as one autoregressive stream."""

    DTYPES = PRIOR_DTYPES

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = layout = config.layout
        self.tokens = nn.Embedding(layout.vocabulary, config.width)
        self.prefix_positions = nn.Embedding(layout.prefix_length, config.width)
        self.rows = nn.Embedding(config.grid_height, config.width)
        self.columns = nn.Embedding(config.grid_width, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.kinds = [layer_kind(layer, config.layers) for layer in range(config.layers)]
        self.norm = nn.LayerNorm(config.width)
        self.text_head = nn.Linear(config.width, config.text_vocabulary + config.text_length, bias=False)
        self.image_head = nn.Linear(config.width, config.codebook_size, bias=False)
        self.sparse = layout.length >= SPARSE_MIN_LENGTH
        kinds = list(dict.fromkeys(self.kinds))  # in one order in every process: DDP pairs buffers by their order
        with torch.device("cpu"):  # the tables have to be real even where the weights are not (yet)
            self.dense, self.local, self.flex = (
                nn.ModuleDict({kind: attention(kind, layout.prefix_length, layout.grid) for kind in kinds})
                for attention in (DenseAttention, LocalAttention, FlexAttention)
            )
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, Block):
            for residual in ("attention.out.weight", "mlp.2.weight"):
                module.get_parameter(residual).data.div_(math.sqrt(2 * self.config.layers))

    def forward(
        self, stream: Tensor, positions: Tensor | None = None, attends: Sequence[AttentionFn] | None = None
    ) -> Tensor:
        """Stream ids int64 [B, P] -> hidden states [B, P, D] for the two heads.

        The ids are a stream's first P inputs, or stand at ``positions`` int64 [B, P]. ``attends`` has each layer's
        attention: by default that of training, else a cache's (see :meth:`prefill` and :meth:`decode`).
        """
        if positions is None:
            positions = torch.arange(stream.shape[1], device=stream.device)[None]
        x = self.tokens(stream) + self._position_embedding(positions)
        for block, attend in zip(self.blocks, attends or self._whole_stream(stream), strict=True):
            x = block(x, attend)
        return self.norm(x)

    def prefill_text(self, prefix: Tensor, cache: KVCache, caption: Caption) -> Tensor:
        """Keep a prefix int64 [1, P] in ``cache`` as the text of ``caption``; hidden state [D] after its last input."""
        return self(prefix, attends=cache.prefill_text(caption, self._masks()))[0, -1]

    def prefill_image(self, stream: Tensor, cache: KVCache, slots: Sequence[int]) -> Tensor:
        """Keep the image tokens that end a stream [1, P] in ``slots``; hidden state [D] after its last input."""
        return self(stream, attends=cache.prefill_image(slots, self._masks()))[0, -1]

    def decode(self, image_tokens: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
        """Feed the image token int64 [S] at raster ``positions`` int64 [S] of every slot; hidden states [S, D]."""
        stream = (image_tokens + self.layout.image_offset)[:, None]
        return self(stream, (self.layout.prefix_length + positions)[:, None], cache.decode(positions))[:, 0]

    def text_logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next text token, learned pads included: [B, P, D] -> [B, P, V + T]."""
        with fp16_forbidden(hidden.device.type):
            return self.text_head(hidden)

    def image_logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next image token: [B, P, D] -> [B, P, K]."""
        with fp16_forbidden(hidden.device.type):
            return self.image_head(hidden)

    def for_inference(self, dtype: torch.dtype) -> Prior:
        """Cast, and on a CPU lay the weights out, for decoding alone: no training and no ``state_dict`` after this.

        ``torch.int8`` rounds the blocks' weights to 8 bits beside bf16 activations, which pays for a few slots.

        Raises:
            UserError: int8 is asked for on another device than a CPU.
        """
        on_cpu, rounded = self.tokens.weight.device.type == "cpu", dtype == torch.int8
        if rounded and not on_cpu:
            raise UserError("dtype is int8: use bfloat16 on this device, int8 weights are for CPUs.")
        self.to(torch.bfloat16 if rounded else dtype).eval()
        if on_cpu and dtype != torch.float32 and PackedLinear.is_supported():
            if rounded:
                pack(self.blocks, Int8Linear)
            pack(self, PackedLinear)
        return self

    def new_cache(self, slots: int, captions: int) -> KVCache:
        """An empty cache for ``slots`` streams of ``captions``, on the model's device and in its dtype."""
        weight, config = self.tokens.weight, self.config
        sizes = (slots, captions, config.heads, config.head_width, self.layout)
        return KVCache(self.kinds, *sizes, device=weight.device, dtype=weight.dtype)

    def _masks(self) -> dict[str, Tensor]:
        return {kind: attention.get_buffer("mask") for kind, attention in self.dense.items()}

    def _position_embedding(self, positions: Tensor) -> Tensor:
        """Text positions have one embedding each; image positions the sum of their row's and their column's."""
        prefix, width = self.layout.prefix_length, self.config.grid_width
        image = (positions - prefix).clamp(min=0)
        of_image = self.rows(image // width) + self.columns(image % width)
        of_prefix = self.prefix_positions(positions.clamp(max=prefix - 1))
        return torch.where((positions < prefix)[..., None], of_prefix, of_image)

    def _whole_stream(self, stream: Tensor) -> list[AttentionFn]:
        """Each layer's attention in training: block-sparse where streams are whole and long, else dense."""
        if not self.sparse or stream.shape[1] != self.layout.length:
            return [self.dense[kind] for kind in self.kinds]
        if stream.is_cuda:
            return [self.flex[kind] for kind in self.kinds]
        return [self.local[kind] if self.local[kind].is_faster_than_dense else self.dense[kind] for kind in self.kinds]
