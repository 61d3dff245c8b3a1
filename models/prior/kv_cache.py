"""Keys and values of the stream so far, for every slot of a decoding batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class KVCache:
    """Static K and V [layers, S, A, L, E]: S slots, each holding one stream at its own position."""

    def __init__(
        self,
        layers: int,
        slots: int,
        heads: int,
        length: int,
        head_width: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (layers, slots, heads, length, head_width)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)

    @property
    def slots(self) -> int:
        return self.keys.shape[1]

    def attend(self, layer: int, positions: Tensor, mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep k, v [S, A, P, E] of a layer at stream ``positions`` [S, P]; gather for q under mask [S, 1, P, L]."""
        keys, values = self.keys[layer], self.values[layer]
        slot = torch.arange(k.shape[0], device=k.device)[:, None]
        keys[slot, :, positions] = k.transpose(1, 2)
        values[slot, :, positions] = v.transpose(1, 2)
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)

    def copy_prefix(self, source: KVCache, slots: list[int], length: int) -> None:
        """Give ``slots`` the first ``length`` positions of the single stream in ``source``."""
        index = torch.tensor(slots, device=self.keys.device)
        self.keys[:, index, :, :length] = source.keys[:, :1, :, :length]
        self.values[:, index, :, :length] = source.values[:, :1, :, :length]
