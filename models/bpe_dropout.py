"""BPE dropout (Provilkov et al. 2020) with a seed; the paper trains its prior with 10 % of the merges left out.

Hugging Face's tokenizers have dropout, too, but from a generator that cannot be seeded: a run that resumes could not
repeat the tokens that it has read.
"""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer


class DropoutBPE:
    """Applies the merges of a trained byte-level BPE in Python, to one caption at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        model = json.loads(tokenizer.to_str())["model"]
        self._tokenizer = tokenizer
        self._ids: dict[str, int] = model["vocab"]
        self._ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}

    def encode(self, caption: str, dropout: float, random: np.random.Generator) -> list[int]:
        """Return the ids of a caption; whenever a merge is possible, it is left out with probability ``dropout``."""
        text = self._tokenizer.normalizer.normalize_str(caption)
        words = (word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(text))
        return [self._ids[piece] for word in words for piece in self._merge(list(word), dropout, random)]

    def _merge(self, pieces: list[str], dropout: float, random: np.random.Generator) -> list[str]:
        """Merge a word's characters: again and again the neighbouring pair learned earliest, among those not dropped.

        Every pair is dropped or not anew in each round; the first round without a pair to merge is the last.
        """
        while len(pieces) > 1:
            is_kept = random.random(len(pieces) - 1) >= dropout
            mergeable = [
                (self._ranks[pair], first)
                for first, pair in enumerate(pairwise(pieces))
                if is_kept[first] and pair in self._ranks
            ]
            if not mergeable:
                break
            _, first = min(mergeable)
            pieces[first : first + 2] = [pieces[first] + pieces[first + 1]]
        return pieces
