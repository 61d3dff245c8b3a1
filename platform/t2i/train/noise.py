"""The random numbers of training: pure functions of the seed, the step and the row's place in the global batch.

So a resumed run goes on exactly as the killed one would have, and a row gets the same crop, caption and Gumbel noise
whatever the number of workers and microbatches, and whichever of them it is in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.hashing import GOLDEN, splitmix64


@dataclass(frozen=True)
class Noise:
    """A seed for each row of a batch, uint64 [B]. A ``stream`` numbers one use of them, independent of the others."""

    seeds: np.ndarray

    @classmethod
    def of_step(cls, seed: int, step: int, rows: int) -> Noise:
        """Return the noise of all ``rows`` of the global batch of ``step``."""
        return cls(np.random.SeedSequence([seed, step]).generate_state(rows, np.uint64))

    def __getitem__(self, rows: slice) -> Noise:
        return Noise(self.seeds[rows])

    def uniform(self, stream: int) -> np.ndarray:
        """Return a number in [0, 1) for each row, float64 [B]."""
        return (self._seeds_of(stream) >> np.uint64(11)) * 2.0**-53

    def numpy(self, stream: int) -> list[np.random.Generator]:
        """Return a NumPy generator for each row."""
        return [np.random.default_rng(int(seed)) for seed in self._seeds_of(stream)]

    def torch(self, stream: int, device: torch.device) -> list[torch.Generator]:
        """Return a torch generator on ``device`` for each row."""
        return [torch.Generator(device).manual_seed(int(seed >> np.uint64(1))) for seed in self._seeds_of(stream)]

    def _seeds_of(self, stream: int) -> np.ndarray:
        """Return the seeds of a stream, uint64 [B]."""
        offset = (GOLDEN * (stream + 1) + 2**63) % 2**64 - 2**63  # wrapped to int64
        return splitmix64(self.seeds.view(np.int64) + np.int64(offset)).view(np.uint64)
