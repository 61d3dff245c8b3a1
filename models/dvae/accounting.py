"""FLOPs of training a dVAE, computed from its configuration without building it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.dvae import decoder, encoder
from models.dvae.dvae import DVAEConfig


@dataclass(frozen=True)
class DVAEFlops:
    """FLOPs of the forward pass of one image: 2 for each multiply-add of a convolution, padding included, nothing else.

    ``pixels`` is the encoder's first convolution alone, whose input needs no gradient; ``encoder`` is the rest of it.
    """

    pixels: int
    encoder: int
    decoder: int

    @property
    def forward(self) -> int:
        """FLOPs of the whole forward pass."""
        return self.pixels + self.encoder + self.decoder

    @property
    def training(self) -> int:
        """FLOPs of forward and backward, which has two products for each convolution (input and weight)."""
        return 3 * self.forward - self.pixels


def dvae_flops(config: DVAEConfig, image_size: int) -> DVAEFlops:
    """Return the FLOPs of one square image of ``image_size`` x ``image_size`` pixels."""
    return DVAEFlops(
        pixels=_conv(3, config.width, 7, image_size),
        encoder=_encoder(config, image_size),
        decoder=_decoder(config, image_size // config.downsample),
    )


def _encoder(config: DVAEConfig, side: int) -> int:
    """Return the FLOPs from the first block's input [width, side, side] to the logits."""
    flops, n_in = 0, config.width
    for group in range(config.groups):
        n_out = config.width * 2**group
        for _ in range(config.blocks_per_group):
            flops += _block(n_in, n_out, encoder.KERNEL_SIZES, side, side)
            n_in = n_out
        if group < config.groups - 1:
            side //= 2
    return flops + _conv(n_in, config.codebook_size, 1, side)


def _decoder(config: DVAEConfig, side: int) -> int:
    """Return the FLOPs from relaxed codes [K, side, side] to the six maps; the codes are dense, whatever tau is."""
    flops, n_in = _conv(config.codebook_size, config.decoder_input_width, 1, side), config.decoder_input_width
    for group in range(config.groups):
        n_out = config.width * 2 ** (config.groups - 1 - group)
        for block in range(config.blocks_per_group):
            entered, side = side, side * 2 if group and not block else side
            flops += _block(n_in, n_out, decoder.KERNEL_SIZES, entered, side)
            n_in = n_out
    return flops + _conv(n_in, 6, 1, side)


def _block(n_in: int, n_out: int, kernels: Sequence[int], entered: int, side: int) -> int:
    """Return the FLOPs of one residual block whose input has the side ``entered`` and whose output has ``side``.

    Where they differ, the block's 1x1 convolutions run before its up-sampling (see :class:`ResidualBlock`).
    """
    widths = [n_in, *[n_out // 4] * (len(kernels) - 1), n_out]
    sides = [entered] + [side] * (len(kernels) - 1)
    identity = _conv(n_in, n_out, 1, entered) if n_in != n_out else 0
    return identity + sum(map(_conv, widths, widths[1:], kernels, sides))


def _conv(n_in: int, n_out: int, kernel: int, side: int) -> int:
    """Return the FLOPs of a same-size convolution of a square map."""
    return 2 * n_in * n_out * kernel**2 * side**2
