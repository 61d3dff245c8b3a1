"""Named model sizes, from one that trains in minutes on a laptop to the paper's 12 B parameters."""

from __future__ import annotations

from dataclasses import dataclass

from models.dvae import DVAEConfig
from models.errors import UserError
from models.prior import PriorConfig
from models.reranker import CLIPConfig


@dataclass(frozen=True)
class Preset:
    """An image size in pixels, and the configurations of models that fit it and each other."""

    image_size: int
    tokenizer_vocabulary: int
    dvae: DVAEConfig
    prior: PriorConfig
    clip: CLIPConfig

    def __post_init__(self) -> None:
        side = self.image_size // self.dvae.downsample
        if (self.prior.grid_height, self.prior.grid_width) != (side, side):
            raise ValueError(
                f"prior grid must be {side} x {side}: a {self.image_size} px image over {self.dvae.downsample}."
            )
        if self.prior.codebook_size != self.dvae.codebook_size:
            raise ValueError("prior.codebook_size must be the dVAE's.")


def paper_sized(layers: int, heads: int) -> Preset:
    """Return the paper's preset, 256 px images of 32 x 32 tokens, with ``layers`` and ``heads`` of width 64."""
    return Preset(256, 16384, DVAEConfig(), PriorConfig(layers=layers, heads=heads), CLIPConfig())


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        image_size=32,
        tokenizer_vocabulary=2048,
        dvae=DVAEConfig(
            width=32, groups=3, blocks_per_group=1, codebook_size=256, decoder_input_width=64, code_std=1.0
        ),
        prior=PriorConfig(
            layers=6,
            heads=4,
            head_width=48,
            text_length=20,
            text_vocabulary=2048,
            grid_height=8,
            grid_width=8,
            codebook_size=256,
        ),
        clip=CLIPConfig(),
    ),
    "small": Preset(
        image_size=64,
        tokenizer_vocabulary=4096,
        dvae=DVAEConfig(
            width=96, groups=3, blocks_per_group=1, codebook_size=1024, decoder_input_width=128, code_std=1.0
        ),
        prior=PriorConfig(
            layers=8,
            heads=4,
            text_length=32,
            text_vocabulary=4096,
            grid_height=16,
            grid_width=16,
            codebook_size=1024,
        ),
        clip=CLIPConfig(),
    ),
    "base": paper_sized(layers=24, heads=16),
    "1b": paper_sized(layers=24, heads=32),
    "2.8b": paper_sized(layers=64, heads=30),
    "5.5b": paper_sized(layers=64, heads=42),
    "12b": paper_sized(layers=64, heads=62),
}
"""Presets by name; ``2.8b``, ``5.5b`` and ``12b`` have the sizes of the paper's three priors, and its dVAE."""


def get_preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        UserError: there is none of this name.
    """
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is unknown: use one of {', '.join(PRESETS)}.")
    return PRESETS[name]
