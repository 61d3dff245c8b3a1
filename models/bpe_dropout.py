"""BPE dropout (Provilkov et al. 2020), seeded: the paper trains its prior with 10 % of the merges left out.

Hugging Face's tokenizers have dropout too, but draw it from a generator that nobody can seed, and a run that resumes
could not repeat what it read.
"""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer


class DropoutBPE:
    """The merges of a trained byte-level BPE, applied in Python to one caption at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        model = json.loads(tokenizer.to_str())["model"]
        self._tokenizer = tokenizer
        self._ids: dict[str, int] = model["vocab"]
        self._ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}

    def encode(self, caption: str, dropout: float, random: np.random.Generator) -> list[int]:
        """Ids of a caption; each possible merge is overlooked with probability ``dropout`` whenever it is met."""
        text = self._tokenizer.normalizer.normalize_str(caption)
        words = (word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(text))
        return [self._ids[piece] for word in words for piece in self._merge(list(word), dropout, random)]

    def _merge(self, pieces: list[str], dropout: float, random: np.random.Generator) -> list[str]:
        """Join the best-ranked neighbours, those that dropout spares this time, until none is left."""
        while len(pieces) > 1:
            spared = random.random(len(pieces) - 1) >= dropout
            known = [
                (self._ranks[pair], place)
                for place, pair in enumerate(pairwise(pieces))
                if spared[place] and pair in self._ranks
            ]
            if not known:
                break
            _, place = min(known)
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        return pieces
