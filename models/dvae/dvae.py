"""The discrete VAE: encoder, Gumbel-softmax relaxation, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dvae.decoder import Decoder
from models.dvae.encoder import Encoder
from models.dvae.loss import from_logit_laplace, to_logit_laplace
from models.settings import setting

BATCH_PIXELS = 4 * 256 * 256
"""Pixels that are encoded or decoded at once; more would take more memory and no less time."""

NEUTRAL = 0.5
"""What a preview shows where nothing is known yet: mid-grey, the middle of the range of pixels."""


@dataclass
class DVAEConfig:
    """Sizes of the dVAE; the defaults are the paper's (97.6 M parameters, 256 px -> 32 x 32 tokens)."""

    width: int = setting(256, "channels of the widest feature map (n_hid)")
    groups: int = setting(4, "resolution groups; the grid is the image over 2^(groups-1)")
    blocks_per_group: int = setting(2, "residual blocks in each group")
    codebook_size: int = setting(8192, "K, the number of image tokens")
    decoder_input_width: int = setting(128, "channels of the decoder's first convolution")
    code_std: float | None = setting(None, "initial spread of the decoder's code vectors; empty: 1/sqrt(K)")

    def __post_init__(self) -> None:
        if self.width % 4:
            raise ValueError(f"dvae.width is {self.width}: use a multiple of 4 (hidden layers have a quarter of it).")

    @property
    def downsample(self) -> int:
        """Image pixels per grid cell, along each side."""
        return 2 ** (self.groups - 1)


class DVAE(nn.Module):
    """Images [B, 3, H, W] in [0, 1] <-> image tokens [B, h * w] in raster order."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.width, config.groups, config.blocks_per_group, config.codebook_size)
        self.encoder = Encoder(*sizes)
        self.decoder = Decoder(*sizes, config.decoder_input_width)
        if config.code_std is not None:
            nn.init.normal_(self.decoder.input.weight, std=config.code_std)

    def forward(self, images: Tensor, tau: float, generators: Sequence[torch.Generator] = ()) -> tuple[Tensor, Tensor]:
        """Images -> (encoder logits [B, K, h, w], decoder maps [B, 6, H, W]) through one relaxed sample.

        The soft Gumbel-softmax sample goes forward *and* backward; there is no straight-through step.
        """
        logits = self.encode_logits(images)
        return logits, self.decoder(gumbel_softmax(logits, tau, generators))

    def encode_logits(self, images: Tensor) -> Tensor:
        """Images -> un-tempered logits [B, K, h, w].

        Raises:
            ValueError: the sides are not multiples of the down-sampling factor.
        """
        factor = self.config.downsample
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % factor or images.shape[3] % factor:
            raise ValueError(
                f"images have shape {tuple(images.shape)}: expected [B, 3, H, W], H and W multiples of {factor}."
            )
        return self.encoder(to_logit_laplace(images))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images -> image tokens int64 [B, h * w]: the most likely code, without noise (as stage 2 takes them).

        Raises:
            ValueError: the sides are not multiples of the down-sampling factor.
        """
        parts = images.split(max(1, BATCH_PIXELS // images.shape[-2:].numel()))
        return torch.cat([self.encode_logits(part).argmax(dim=1).flatten(1) for part in parts])

    @torch.no_grad()
    def decode(self, image_tokens: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Image tokens int64 [B, N] -> images float32 [B, 3, H, W] in [0, 1]; the grid is square unless given."""
        side = round(image_tokens.shape[1] ** 0.5)
        grids = image_tokens.unflatten(1, grid or (side, side))
        parts = grids.split(max(1, BATCH_PIXELS // (image_tokens.shape[1] * self.config.downsample**2)))
        return torch.cat([reconstruction(self.decoder.from_tokens(part)) for part in parts])

    @torch.no_grad()
    def preview(self, image_tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """The first r rows of an h x w grid, int64 [B, r * w] -> images float32 [B, 3, H, W], below them mid-grey.

        The rows are decoded alone: near the cut they will change as soon as the decoder sees what follows, but no
        further up than its receptive field reaches.

        Raises:
            ValueError: the tokens are not whole rows of the grid.
        """
        (height, width), cell = grid, self.config.downsample
        rows, rest = divmod(image_tokens.shape[1], width)
        if rest or rows > height:
            raise ValueError(f"image_tokens are {image_tokens.shape[1]}: use whole rows of {width}, up to {height}.")
        shape = (len(image_tokens), 3, height * cell, width * cell)
        images = torch.full(shape, NEUTRAL, device=image_tokens.device)
        if rows:
            images[:, :, : rows * cell] = self.decode(image_tokens, (rows, width))
        return images

    def for_inference(self, dtype: torch.dtype) -> DVAE:
        """Compute in ``dtype``, except what the paper keeps in float32; images and logits stay float32."""
        self.encoder.for_inference(dtype)
        self.decoder.for_inference(dtype)
        return self


def reconstruction(maps: Tensor) -> Tensor:
    """Decoder maps [B, 6, H, W] -> images [B, 3, H, W]: phi^-1(sigmoid(mu))."""
    return from_logit_laplace(torch.sigmoid(maps[:, :3].float()))


def gumbel_softmax(logits: Tensor, tau: float, generators: Sequence[torch.Generator] = ()) -> Tensor:
    """A soft sample softmax((logits + g) / tau) over dim 1, g ~ Gumbel(0, 1).

    ``generators`` share the batch: one draws for all of it, as many as there are images each draw for their own.
    """
    noise = torch.empty_like(logits, memory_format=torch.contiguous_format)  # the same draw in any layout
    for part, generator in zip(noise.chunk(len(generators) or 1), generators or (None,), strict=True):
        part.exponential_(generator=generator)
    return F.softmax((logits - noise.log()) / tau, dim=1)
