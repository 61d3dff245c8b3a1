"""The discrete VAE: encoder, Gumbel-softmax relaxation, decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dvae.decoder import Decoder
from models.dvae.encoder import Encoder
from models.dvae.loss import from_logit_laplace, to_logit_laplace
from models.settings import setting


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

    def forward(self, images: Tensor, tau: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Images -> (encoder logits [B, K, h, w], decoder maps [B, 6, H, W]) through one relaxed sample.

        The soft Gumbel-softmax sample goes forward *and* backward; there is no straight-through step.
        """
        logits = self.encode_logits(images)
        return logits, self.decoder(gumbel_softmax(logits, tau, generator))

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
        """Images -> image tokens int64 [B, h * w]: the most likely code, without noise (as stage 2 takes them)."""
        return self.encode_logits(images).argmax(dim=1).flatten(1)

    @torch.no_grad()
    def decode(self, image_tokens: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Image tokens int64 [B, N] -> images float32 [B, 3, H, W] in [0, 1]; the grid is square unless given."""
        side = round(image_tokens.shape[1] ** 0.5)
        maps = self.decoder.from_tokens(image_tokens.unflatten(1, grid or (side, side)))
        return reconstruction(maps)


def reconstruction(maps: Tensor) -> Tensor:
    """Decoder maps [B, 6, H, W] -> images [B, 3, H, W]: phi^-1(sigmoid(mu))."""
    return from_logit_laplace(torch.sigmoid(maps[:, :3].float()))


def gumbel_softmax(logits: Tensor, tau: float, generator: torch.Generator | None = None) -> Tensor:
    """A soft sample softmax((logits + g) / tau) over dim 1, g ~ Gumbel(0, 1)."""
    noise = torch.empty_like(logits).exponential_(generator=generator).log().neg()
    return F.softmax((logits + noise) / tau, dim=1)
