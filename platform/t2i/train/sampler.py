"""Which rows a step takes, and the random numbers it draws: pure functions of the seed and the step.

A run that resumes at a step therefore goes on exactly as the one that was killed would have.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch


class EpochSampler:
    """Shuffled epochs laid end to end and cut into global batches.

    Every row comes exactly once in each epoch; a batch may hold the end of one epoch and the start of the next.
    The global batch of a step does not depend on the number of workers that share it.
    """

    def __init__(self, n: int, global_batch: int, seed: int) -> None:
        self.n = n
        self.global_batch = global_batch
        self.seed = seed

    def rows(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """Rows int64 [global_batch / world] of worker ``rank`` at ``step``."""
        share = self.global_batch // world
        start = step * self.global_batch + rank * share
        epochs, offsets = np.divmod(np.arange(start, start + share), self.n)
        rows = np.empty(share, np.int64)
        for epoch in np.unique(epochs):
            of_epoch = epochs == epoch
            rows[of_epoch] = _permutation(self.n, self.seed, int(epoch))[offsets[of_epoch]]
        return rows


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n)


def generator(device: torch.device | str, *key: int) -> torch.Generator:
    """A random generator that depends on the whole ``key``, such as (seed, step, rank)."""
    words = np.random.SeedSequence(list(key)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0] >> np.uint64(1)))
