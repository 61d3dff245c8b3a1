"""The prior: a decoder-only transformer with row, column and convolutional attention (paper section 2.2).

One :meth:`Prior.forward` serves training (whole streams) and decoding (one image token in every row of a step).
The paper does not state weight initialisation, GELU variant or norm placement ("the same kind as Child et al. 2019");
ours are GPT-2's: pre-norm, N(0, 0.02), residual projections scaled by 1 / sqrt(2 layers), tanh GELU.

Shapes: B batch, S slots of a cache and rows of a step, A heads, E head width, D = A E model width, V text vocabulary,
K codebook size; T text positions, P = T + 2 inputs of the prefix, N image tokens, L = P + N - 1 inputs of a whole
stream. L_ is the number of inputs in one call: L in training, at most L in a prefill, 1 in a decode step (where B is
S). A capital suffix of a local name is its shape, with L for L_: ``q_BALE`` is [B, A, L_, E].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.dtypes import PRIOR_DTYPES
from models.errors import UserError
from models.gradient_scaling import Residual, no_fp16_autocast
from models.precision import TORCH_DTYPES
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

    layers: int = setting(64, "transformer layers", at_least=1)
    heads: int = setting(62, "attention heads", at_least=1)
    head_width: int = setting(64, "width of one head; the model is heads x head_width wide", at_least=1)
    text_length: int = setting(256, "T, text positions; shorter captions are filled with learned pads", at_least=1)
    text_vocabulary: int = setting(16384, "V, the number of BPE tokens", at_least=256)
    grid_height: int = setting(32, "rows of image tokens", at_least=1)
    grid_width: int = setting(32, "columns of image tokens", at_least=1)
    codebook_size: int = setting(8192, "K, the number of different image tokens, as in the dVAE", at_least=2)

    @property
    def width(self) -> int:
        """D, the width of the residual stream."""
        return self.heads * self.head_width

    @property
    def layout(self) -> StreamLayout:
        """Where text and image tokens are in the stream."""
        return StreamLayout(
            self.text_length, self.text_vocabulary, (self.grid_height, self.grid_width), self.codebook_size
        )


class Attention(nn.Module):
    """Multi-head attention: the projections; ``attend`` decides which keys each query sees."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, attend: AttentionFn) -> Tensor:
        """Return each position's attention output, gathered from those it sees: [B, L_, D] -> [B, L_, D]."""
        qkv_BL3AE = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        q_BALE, k_BALE, v_BALE = qkv_BL3AE.permute(2, 0, 3, 1, 4)
        gathered_BALE = attend(q_BALE, k_BALE, v_BALE)
        gathered_BLD = gathered_BALE.transpose(1, 2).flatten(2)
        out_BLD: Tensor = self.out(gathered_BLD)
        return out_BLD


class Block(nn.Module):
    """One layer: attention, then an MLP of width 4 D, each in a pre-norm residual branch."""

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
        """Add both branches to the residual stream: [B, L_, D] -> [B, L_, D]."""
        x = self.add_attention(x, lambda x: self.attention(self.attention_norm(x), attend))
        return self.add_mlp(x, lambda x: self.mlp(self.mlp_norm(x)))


class Prior(nn.Module):
    """The distribution of text and image tokens as one autoregressive stream (see :mod:`models.prior.stream`)."""

    DTYPES = PRIOR_DTYPES
    """The dtypes that :func:`models.checkpoint.load_model` may give the prior."""

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
        self.rounds_text = False
        self.sparse = layout.length >= SPARSE_MIN_LENGTH
        # Each kind once, in the same order in every process (a set's order differs): DDP pairs buffers by their order.
        kinds = list(dict.fromkeys(self.kinds))
        with torch.device("cpu"):  # the mask tables are needed even if the weights are on the meta device
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
        """Return the hidden states [B, L_, D], for the two heads, of stream ids int64 [B, L_].

        The ids are the first L_ inputs of each stream, or those at ``positions`` int64 [B, L_]. ``attends`` holds one
        attention function for each layer: a cache's in decoding (see :meth:`prefill_text`, :meth:`prefill_image` and
        :meth:`decode`), by default those of training, which see the given inputs alone.
        """
        if positions is None:
            positions = torch.arange(stream.shape[1], device=stream.device)[None]
        x_BLD = self.tokens(stream) + self._position_embedding(positions)
        for block, attend in zip(self.blocks, attends or self._training_attention(stream), strict=True):
            x_BLD = block(x_BLD, attend)
        hidden_BLD: Tensor = self.norm(x_BLD)
        return hidden_BLD

    def prefill_text(self, prefix: Tensor, cache: KVCache, caption: Caption) -> Tensor:
        """Store the keys and values of a prefix int64 [1, P] in ``cache`` as the text of ``caption``.

        Returns:
            The hidden state [D] after the last input, from which the first image token is drawn.
        """
        attends = cache.text_prefill_attention(caption, self._masks())
        hidden_1PD: Tensor = self(prefix, attends=attends)
        return hidden_1PD[0, -1]

    def prefill_image(self, stream: Tensor, cache: KVCache, slots: Sequence[int]) -> Tensor:
        """Store the keys and values of the image tokens in a stream int64 [1, L_] in each of ``slots``.

        Returns:
            The hidden state [D] after the last input, from which the next image token is drawn.
        """
        attends = cache.image_prefill_attention(slots, self._masks())
        hidden_1LD: Tensor = self(stream, attends=attends)
        return hidden_1LD[0, -1]

    def decode(self, image_tokens: Tensor, positions: Tensor, owners: Tensor, cache: KVCache) -> Tensor:
        """Run one decode step: each of S rows feeds an image token int64 [S], which is at a raster position int64 [S].

        ``owners`` int64 [S] is the slot of each row. Rows of one slot see each other's tokens, if these come before.

        Returns:
            Hidden states [S, D], from each of which the image token after the fed one is drawn.
        """
        stream_S1 = (image_tokens + self.layout.image_offset)[:, None]
        positions_S1 = (self.layout.prefix_length + positions)[:, None]
        hidden_S1D: Tensor = self(stream_S1, positions_S1, cache.decode_step_attention(positions, owners))
        return hidden_S1D[:, 0]

    def text_logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of the next text token, learned pads included: [B, L_, D] -> [B, L_, V + T]."""
        with no_fp16_autocast(hidden.device.type):
            logits: Tensor = self.text_head(hidden)
        return logits

    def image_logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of the next image token: [..., D] -> [..., K]."""
        with no_fp16_autocast(hidden.device.type):
            logits: Tensor = self.image_head(hidden)
        return logits

    def for_inference(self, dtype: str) -> Prior:
        """Cast to one of ``PRIOR_DTYPES`` and, on a CPU, re-order the weights; then they can no longer be trained.

        int8 rounds the blocks' weights to 8 bits, which is the fastest for up to about four slots. bfloat16-kv8 lets a
        :meth:`new_cache` round the text's keys and values to 8 bits.

        Raises:
            UserError: int8 on a device other than a CPU.
        """
        on_cpu, rounded = self.tokens.weight.device.type == "cpu", dtype == "int8"
        if rounded and not on_cpu:
            raise UserError("dtype is int8: use bfloat16 on this device, int8 weights are for CPUs.")
        self.to(TORCH_DTYPES[dtype]).eval()
        self.rounds_text = dtype == "bfloat16-kv8"
        if on_cpu and dtype != "float32" and PackedLinear.is_supported():
            if rounded:
                pack(self.blocks, Int8Linear)
            pack(self, PackedLinear)
        return self

    def new_cache(self, slots: int, captions: int, window: int = 1) -> KVCache:
        """Return an empty cache of ``slots`` streams under at most ``captions`` captions, in the model's dtype.

        A decode step may feed up to ``window`` tokens of one slot.
        """
        weight, config = self.tokens.weight, self.config
        sizes = (slots, captions, config.heads, config.head_width, self.layout)
        text_dtype = torch.int8 if self.rounds_text else weight.dtype
        return KVCache(
            self.kinds, *sizes, window=window, device=weight.device, dtype=weight.dtype, text_dtype=text_dtype
        )

    def _masks(self) -> dict[str, Tensor]:
        """Return the dense mask, bool [L, L], of each kind of layer."""
        return {kind: attention.get_buffer("mask") for kind, attention in self.dense.items()}

    def _position_embedding(self, positions: Tensor) -> Tensor:
        """Embed stream positions int64 [B, L_] as [B, L_, D].

        Each prefix position has an embedding of its own; an image position has the sum of its row's and its column's.
        """
        prefix, width = self.layout.prefix_length, self.config.grid_width
        raster_BL = (positions - prefix).clamp(min=0)
        image_BLD = self.rows(raster_BL // width) + self.columns(raster_BL % width)
        prefix_BLD = self.prefix_positions(positions.clamp(max=prefix - 1))
        return torch.where((positions < prefix)[..., None], prefix_BLD, image_BLD)

    def _training_attention(self, stream: Tensor) -> list[AttentionFn]:
        """Return each layer's attention without a cache: sparse for whole, long streams, else dense."""
        if not self.sparse or stream.shape[1] != self.layout.length:
            return [self.dense[kind] for kind in self.kinds]
        if stream.is_cuda:
            return [self.flex[kind] for kind in self.kinds]
        return [self.local[kind] if self.local[kind].is_faster_than_dense else self.dense[kind] for kind in self.kinds]
