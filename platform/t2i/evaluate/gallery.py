"""Which captions the report shows, and their pictures as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from t2i.contact_sheet import SheetRow
from t2i.evaluate.candidates import Candidates, to_png
from t2i.evaluate.feature_sets import FeatureSet
from t2i.evaluate.work_list import WorkList

SHOWN_CANDIDATES = 8
"""Most candidates that are shown of one caption."""


@dataclass(frozen=True)
class Galleries:
    """Ids of the captions in the report's three galleries: a random sample, the best and the worst by CLIP.

    Captions are ordered by the cosine of their best candidate; ``worst`` begins with the lowest.
    """

    sample: list[str]
    best: list[str]
    worst: list[str]

    @property
    def ids(self) -> list[str]:
        """All ids, each once, sorted."""
        return sorted({*self.sample, *self.best, *self.worst})


@dataclass(frozen=True)
class CaptionCard:
    """What the report shows of one caption, pictures as data URIs.

    ``candidates`` are (picture, CLIP cosine), the best first. ``others`` are pictures with the same id from other image
    sets (``real``, ``reconstruction``, ...), by the set's name.
    """

    caption: str
    candidates: list[tuple[str, float]]
    others: dict[str, str]


def choose_galleries(candidates: Candidates, count: int, seed: int) -> Galleries:
    """Choose ``count`` captions for each gallery, or all captions if there are fewer."""
    ids = np.array(candidates.ids)
    by_score = ids[np.argsort(-candidates.scores[:, 0], kind="stable")].tolist()
    sample = np.random.default_rng(seed).choice(len(ids), min(count, len(ids)), replace=False)
    return Galleries(ids[np.sort(sample)].tolist(), by_score[:count], by_score[: -count - 1 : -1])


def make_cards(
    ids: Sequence[str], work_list: WorkList, candidates: Candidates, sets: Mapping[str, FeatureSet]
) -> dict[str, CaptionCard]:
    """Return the cards of some captions, by id."""
    captions = {item.id: item.caption for item in work_list.items}
    scores = dict(zip(candidates.ids, candidates.scores.tolist(), strict=True))
    drawn = candidates.images(ids)
    return {
        caption_id: CaptionCard(
            captions[caption_id],
            _scored_pictures(drawn[caption_id], scores[caption_id]),
            {name: data_uri(images.shown[caption_id]) for name, images in sets.items() if caption_id in images.shown},
        )
        for caption_id in ids
    }


def _scored_pictures(images: np.ndarray, scores: Sequence[float]) -> list[tuple[str, float]]:
    shown = zip(images[:SHOWN_CANDIDATES], scores[:SHOWN_CANDIDATES], strict=True)
    return [(data_uri(image), score) for image, score in shown]


def sheet_rows(ids: Sequence[str], work_list: WorkList, candidates: Candidates) -> list[SheetRow]:
    """Return rows of a contact sheet, one for each of some captions, with its best candidates."""
    captions = {item.id: item.caption for item in work_list.items}
    scores = dict(zip(candidates.ids, candidates.scores, strict=True))
    drawn = candidates.images(ids)
    return [
        SheetRow.ranked(
            captions[caption_id], drawn[caption_id][:SHOWN_CANDIDATES], scores[caption_id][:SHOWN_CANDIDATES]
        )
        for caption_id in ids
    ]


def data_uri(image: np.ndarray) -> str:
    """Return the data URI of an image uint8 [H, W, 3], encoded as PNG."""
    return "data:image/png;base64," + base64.b64encode(to_png(image)).decode()
