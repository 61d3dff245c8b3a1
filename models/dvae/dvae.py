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
from models.precision import TORCH_DTYPES
from models.settings import setting

BATCH_PIXELS = 4 * 256 * 256
"""Most pixels that are encoded or decoded at once; more would take more memory and be no faster."""

PREVIEW_GREY = 0.5
"""Value of the pixels in a preview whose image tokens are not decoded yet: the middle of [0, 1]."""


@dataclass
class DVAEConfig:
    """Sizes of the dVAE; the defaults are the paper's (97.6 M parameters, 256 px -> 32 x 32 tokens)."""

    width: int = setting(256, "channels of the widest feature map (n_hid)", at_least=1)
    groups: int = setting(4, "groups of residual blocks; each but the last halves height and width", at_least=1)
    blocks_per_group: int = setting(2, "residual blocks in each group", at_least=1)
    codebook_size: int = setting(8192, "K, the number of different image tokens", at_least=2)
    decoder_input_width: int = setting(128, "channels of the decoder's first convolution", at_least=1)
    code_std: float | None = setting(
        None, "initial standard deviation of the decoder's code vectors; empty: 1/sqrt(K)", above=0
    )

    def __post_init__(self) -> None:
        if self.width % 4:
            raise ValueError(f"dvae.width is {self.width}: use a multiple of 4 (hidden layers have a quarter of it).")

    @property
    def downsample(self) -> int:
        """Image pixels per grid cell, along each side: H / h."""
        return 1 << (self.groups - 1)


class DVAE(nn.Module):
    """Encodes images [B, 3, H, W] in [0, 1] as image tokens [B, N] in raster order, N = h w, and decodes them."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.width, config.groups, config.blocks_per_group, config.codebook_size)
        self.encoder = Encoder(*sizes)
        self.decoder = Decoder(*sizes, config.decoder_input_width)
        if config.code_std is not None:
            nn.init.normal_(self.decoder.input.weight, std=config.code_std)

    def forward(self, images: Tensor, tau: float, generators: Sequence[torch.Generator] = ()) -> tuple[Tensor, Tensor]:
        """Return the encoder's logits [B, K, h, w] and the decoder's maps [B, 6, H, W] for one relaxed sample of z.

        The decoder is given the soft sample of :func:`gumbel_softmax` at ``tau``, without a straight-through step.
        """
        logits = self.encode_logits(images)
        return logits, self.decoder(gumbel_softmax(logits, tau, generators))

    def encode_logits(self, images: Tensor) -> Tensor:
        """Return the logits [B, K, h, w] of q(z | x) for images [B, 3, H, W] in [0, 1], not divided by ``tau``.

        Raises:
            ValueError: the images have another shape, or sides that are not multiples of ``downsample``.
        """
        factor = self.config.downsample
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % factor or images.shape[3] % factor:
            raise ValueError(
                f"images have shape {tuple(images.shape)}: expected [B, 3, H, W], H and W multiples of {factor}."
            )
        logits: Tensor = self.encoder(to_logit_laplace(images))
        return logits

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the most likely image tokens int64 [B, N] of images [B, 3, H, W] in [0, 1], as the prior reads them.

        Raises:
            ValueError: the images have another shape, or sides that are not multiples of ``downsample``.
        """
        parts = torch.split(images, max(1, BATCH_PIXELS // images.shape[-2:].numel()))
        return torch.cat([self.encode_logits(part).argmax(dim=1).flatten(1) for part in parts])

    @torch.no_grad()
    def decode(self, image_tokens: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Return the images float32 [B, 3, H, W] in [0, 1] of image tokens int64 [B, N].

        ``grid`` is (h, w), by default a square.
        """
        side = round(image_tokens.shape[1] ** 0.5)
        grids = torch.unflatten(image_tokens, 1, grid or (side, side))
        parts = torch.split(grids, max(1, BATCH_PIXELS // (image_tokens.shape[1] * self.config.downsample**2)))
        return torch.cat([reconstruction(self.decoder.from_tokens(part)) for part in parts])

    @torch.no_grad()
    def preview(self, image_tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return images float32 [B, 3, H, W] of which only the first r rows of tokens are known, int64 [B, r * w].

        ``grid`` is (h, w). Below the known rows the images are mid-grey. The pixels above them are final, except within
        reach of the decoder's receptive field, where the rows that follow will still change them.

        Raises:
            ValueError: the tokens are not whole rows of the grid.
        """
        (height, width), cell = grid, self.config.downsample
        rows, rest = divmod(image_tokens.shape[1], width)
        if rest or rows > height:
            raise ValueError(f"image_tokens are {image_tokens.shape[1]}: use whole rows of {width}, up to {height}.")
        shape = (len(image_tokens), 3, height * cell, width * cell)
        images = torch.full(shape, PREVIEW_GREY, device=image_tokens.device)
        if rows:
            images[:, :, : rows * cell] = self.decode(image_tokens, (rows, width))
        return images

    def for_inference(self, dtype: str) -> DVAE:
        """Compute in ``dtype``, except what the paper keeps in float32; images and logits stay float32."""
        self.encoder.for_inference(TORCH_DTYPES[dtype])
        self.decoder.for_inference(TORCH_DTYPES[dtype])
        return self


def reconstruction(maps: Tensor) -> Tensor:
    """Return the images [B, 3, H, W] in [0, 1] of decoder maps [B, 6, H, W]: phi^-1(sigmoid(mu))."""
    return from_logit_laplace(torch.sigmoid(maps[:, :3].float()))


def gumbel_softmax(logits: Tensor, tau: float, generators: Sequence[torch.Generator] = ()) -> Tensor:
    """Return a soft sample softmax((logits + g) / tau) over dimension 1, g ~ Gumbel(0, 1), shaped as ``logits``.

    The batch is divided evenly among the ``generators``: one draws the noise of all images, as many as there are images
    draw that of one image each. Without any, torch's own draws it.
    """
    # Contiguous, so that the same generator draws the same noise whether the logits are channels last or not.
    noise = torch.empty_like(logits, memory_format=torch.contiguous_format)
    for part, generator in zip(noise.chunk(len(generators) or 1), generators or (None,), strict=True):
        part.exponential_(generator=generator)
    return F.softmax((logits - noise.log()) / tau, dim=1)
