"""Where a run keeps its models: the one place that knows the names of a run directory's parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunLayout:
    """The model directories under one run, a local path or ``s3://`` address."""

    run: str | Path

    @property
    def tokenizer(self) -> str:
        """The caption tokenizer."""
        return f"{self.run}/tokenizer"

    @property
    def dvae(self) -> str:
        """The discrete VAE: encoder and decoder."""
        return f"{self.run}/dvae/model"

    @property
    def prior(self) -> str:
        """The transformer over text and image tokens."""
        return f"{self.run}/prior/model"

    @property
    def clip(self) -> str:
        """The reranker."""
        return f"{self.run}/clip/model"

    @property
    def models(self) -> dict[str, str]:
        """Name -> directory of all four, in the order in which they are trained."""
        return {"tokenizer": self.tokenizer, "dvae": self.dvae, "prior": self.prior, "clip": self.clip}
