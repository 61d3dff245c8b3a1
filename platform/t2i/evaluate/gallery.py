"""Which captions the report shows, and their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.checkpoint import load_model
from models.dtypes import companion_dtype
from models.dvae import DVAE, DVAEConfig
from models.images import to_uint8
from models.run_layout import RunLayout
from t2i.evaluate.candidates import candidates_folder, open_shard, read_caption
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.tasks import one_thread
from t2i.storage import fetch_run


@dataclass(frozen=True)
class Galleries:
    """Ids of the captions in the report's galleries: a random sample, the best, the median, and the worst by CLIP.

    Captions are ordered by the cosine of their best candidate; ``worst`` begins with the lowest.
    """

    sample: list[str]
    best: list[str]
    median: list[str]
    worst: list[str]

    @property
    def ids(self) -> list[str]:
        """All ids, each once, sorted."""
        return sorted({*self.sample, *self.best, *self.median, *self.worst})


@dataclass(frozen=True)
class CaptionCard:
    """What the report shows of one caption.

    ``images`` uint8 [k, H, W, 3] are its best candidates, the best first, ``scores`` float32 [k] their CLIP cosines;
    ``real`` uint8 [H, W, 3] is the image that it describes, if that is at hand.
    """

    caption: str
    images: np.ndarray
    scores: np.ndarray
    real: np.ndarray | None


def choose_galleries(ids: Sequence[str], best_scores: Sequence[float], count: int, seed: int) -> Galleries:
    """Choose ``count`` captions for each gallery, or all captions if there are fewer."""
    names = np.array(ids)
    by_score = names[np.argsort(-np.array(best_scores), kind="stable")].tolist()
    sample = np.random.default_rng(seed).choice(len(names), min(count, len(names)), replace=False)
    middle = max(0, (len(names) - count) // 2)
    return Galleries(
        sample=names[np.sort(sample)].tolist(),
        best=by_score[:count],
        median=by_score[middle : middle + count],
        worst=by_score[: -count - 1 : -1],
    )


@one_thread
def load_cards(
    places: Mapping[str, tuple[int, int]], real: Mapping[str, np.ndarray], layout: SetLayout, config: EvaluateConfig
) -> dict[str, CaptionCard]:
    """Return the cards of some captions by id, of which ``places`` says (shard, index in it).

    The candidates' pixels are made again from their tokens, as most are not stored.
    """
    dtype = companion_dtype(config.dtype)
    dvae = load_model(DVAE, DVAEConfig, RunLayout(fetch_run(config.run)).dvae, dtype=dtype)
    folder = candidates_folder(layout.candidates)
    cards = {}
    for caption_id, (shard, index) in places.items():
        candidates = read_caption(open_shard(folder, shard), index)
        shown = candidates.order[: config.shown_candidates]
        images = to_uint8(dvae.decode(torch.from_numpy(candidates.image_tokens[shown].astype(np.int64))))
        item = candidates.item
        cards[caption_id] = CaptionCard(item.caption, images, candidates.scores[shown], real.get(item.image_id))
    return cards
