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

TILES = 8


@dataclass(frozen=True)
class Choice:
    """Ids of captions: drawn at random, and those whose best candidate fits best and worst by CLIP."""

    sample: list[str]
    best: list[str]
    worst: list[str]

    @property
    def all(self) -> list[str]:
        return sorted({*self.sample, *self.best, *self.worst})


@dataclass(frozen=True)
class Card:
    """A caption with pictures: candidates best first with their cosines, and others by image set (data URIs)."""

    id: str
    caption: str
    candidates: list[tuple[str, float]]
    others: dict[str, str]


def choose(candidates: Candidates, count: int, seed: int) -> Choice:
    """At most ``count`` captions for each gallery."""
    ids = np.array(candidates.ids)
    by_score = ids[np.argsort(-candidates.scores[:, 0], kind="stable")].tolist()
    sample = np.random.default_rng(seed).choice(len(ids), min(count, len(ids)), replace=False)
    return Choice(ids[np.sort(sample)].tolist(), by_score[:count], by_score[: -count - 1 : -1])


def cards(
    choice: Choice, work_list: WorkList, candidates: Candidates, sets: Mapping[str, FeatureSet]
) -> dict[str, Card]:
    """A card for every chosen id."""
    captions = {item.id: item.caption for item in work_list.items}
    scores = dict(zip(candidates.ids, candidates.scores.tolist(), strict=True))
    drawn = candidates.images(choice.all)
    return {
        id: Card(
            id,
            captions[id],
            [(data_uri(image), score) for image, score in zip(drawn[id][:TILES], scores[id][:TILES], strict=True)],
            {name: data_uri(images.shown[id]) for name, images in sets.items() if id in images.shown},
        )
        for id in choice.all
    }


def sheet_rows(ids: Sequence[str], work_list: WorkList, candidates: Candidates) -> list[SheetRow]:
    """Ranked candidates of some captions, for a contact sheet."""
    captions = {item.id: item.caption for item in work_list.items}
    scores = dict(zip(candidates.ids, candidates.scores, strict=True))
    drawn = candidates.images(ids)
    return [SheetRow.ranked(captions[id], drawn[id][:TILES], scores[id][:TILES]) for id in ids]


def data_uri(image: np.ndarray) -> str:
    """uint8 [H, W, 3] -> a PNG inside a URI."""
    return "data:image/png;base64," + base64.b64encode(to_png(image)).decode()
