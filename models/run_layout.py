"""The paths of a run's models and of their records; no other module knows their names within a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunLayout:
    """Paths within the run ``run``, a local directory or an ``s3://`` URI."""

    run: str | Path

    @property
    def tokenizer(self) -> str:
        """Directory of the caption tokenizer."""
        return f"{self.run}/tokenizer"

    @property
    def dvae(self) -> str:
        """Directory of the dVAE, encoder and decoder."""
        return f"{self.run}/dvae/model"

    @property
    def prior(self) -> str:
        """Directory of the prior."""
        return f"{self.run}/prior/model"

    @property
    def clip(self) -> str:
        """Directory of the CLIP that reranks."""
        return f"{self.run}/clip/model"

    @property
    def dvae_record(self) -> str:
        """File with the configuration that the dVAE was trained by."""
        return f"{self.run}/dvae/config.yaml"

    @property
    def prior_record(self) -> str:
        """File with the configuration and the inputs of the prior's training; in a copied run, with the data alone."""
        return f"{self.run}/prior/config.yaml"

    @property
    def card(self) -> str:
        """File of the model card, which says what the models are for; not every run has one."""
        return f"{self.run}/README.md"

    @property
    def models(self) -> dict[str, str]:
        """Name -> directory of each of the four, in the order in which they are trained."""
        return {"tokenizer": self.tokenizer, "dvae": self.dvae, "prior": self.prior, "clip": self.clip}
