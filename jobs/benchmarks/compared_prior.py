"""The sizes of the prior that benchmarks compare with other implementations."""

from __future__ import annotations

from dataclasses import dataclass

from models.prior import PriorConfig
from models.settings import setting


@dataclass
class ComparedPrior:
    """Settings: the sizes of the prior."""

    layers: int = setting(12, "layers of the prior", at_least=1)
    heads: int = setting(8, "attention heads, each 64 wide", at_least=1)
    grid: int = setting(32, "rows and columns of image tokens", at_least=1)
    text_length: int = setting(256, "text positions", at_least=1)
    codebook_size: int = setting(8192, "K, the number of different image tokens", at_least=1)

    @property
    def shape(self) -> PriorConfig:
        """The prior's configuration."""
        return PriorConfig(
            layers=self.layers,
            heads=self.heads,
            text_length=self.text_length,
            grid_height=self.grid,
            grid_width=self.grid,
            codebook_size=self.codebook_size,
        )
