"""Which images and captions are kept, and why the others are not.

The filters run in one order over all images, each on what the one before has left, and every choice between images
follows from their sizes and ids: the result does not depend on blocks, workers, or the order of the source.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from t2i.curate.caption_filters import CAPTION_FILTERS
from t2i.curate.config import CaptionRules, DuplicateRules, ImageRules, CurationRules
from t2i.curate.gather import KEPT, CaptionJudgements, ImageMeasurements
from t2i.curate.neighbours import NeighbourPairs, cosine_neighbours, cosine_recall, hash_neighbours
from t2i.curate.overlap import Match, alike_matches, clip_matches, identical_matches

IMAGE_FILTERS = {
    "unreadable": "the image cannot be decoded",
    "small": "a side is too short",
    "aspect": "too long or too tall",
    "caption": "no caption is left",
    "identical": "the same pixels as a kept image",
    "alike": "looks like a kept image (perceptual hash)",
    "near": "close to a kept image (CLIP)",
    "eval_identical": "the same pixels as an evaluation image",
    "eval_alike": "looks like an evaluation image (perceptual hash)",
    "eval_near": "close to an evaluation image (CLIP)",
}
"""Why an image is dropped, in the order of the filters."""


@dataclass(frozen=True)
class Decisions:
    """Of all images [n]: ``reason`` (empty: kept), ``detail``, ``partner`` (the image it copies, or empty).

    ``captions`` counts captions by what became of them, ``frequent`` (uint64, sorted) holds the keys of those that come
    too often, ``matches`` pairs of training and evaluation images, and ``recall`` that of the near-duplicate search.
    """

    reason: np.ndarray
    detail: np.ndarray
    partner: np.ndarray
    captions: dict[str, int]
    frequent: np.ndarray
    matches: list[Match]
    recall: float | None

    @property
    def kept(self) -> np.ndarray:
        """Places of the kept images."""
        return np.flatnonzero(self.reason == "")

    def counts(self) -> dict[str, int]:
        """ImageMeasurements dropped by each filter, in order."""
        found = Counter(self.reason.tolist())
        return {name: found[name] for name in IMAGE_FILTERS}


def decide(images: ImageMeasurements, captions: CaptionJudgements, evaluation: ImageMeasurements | None, rules: CurationRules) -> Decisions:
    """Run all filters; ``evaluation`` has the images of all evaluation sets, if there are any."""
    funnel = _Funnel(images)
    funnel.check_images(rules.images)
    counted, frequent = funnel.check_captions(captions, rules.captions)
    recall = funnel.drop_duplicates(rules.duplicates)
    matches = funnel.drop_overlap(evaluation, rules) if evaluation is not None and len(evaluation) else []
    return Decisions(funnel.reason, funnel.detail, funnel.partner, counted, frequent, matches, recall)


class _Funnel:
    def __init__(self, images: ImageMeasurements) -> None:
        self.images = images
        self.reason, self.detail, self.partner = (np.full(len(images), "", object) for _ in range(3))

    @property
    def alive(self) -> np.ndarray:
        """Places of images no filter has dropped, the better ones first: by area, then by id."""
        alive = np.flatnonzero(self.reason == "")
        area = self.images.width[alive].astype(np.int64) * self.images.height[alive]
        return alive[np.argsort(-area, kind="stable")]

    def drop(self, places: np.ndarray, reason: str, detail: list[str], partner: list[str] | None = None) -> None:
        self.reason[places], self.detail[places] = reason, np.array(detail, object)
        if partner is not None:
            self.partner[places] = np.array(partner, object)

    def check_images(self, rules: ImageRules) -> None:
        images = self.images
        broken = np.flatnonzero(images.problem != "")
        self.drop(broken, "unreadable", images.problem[broken].tolist())
        sides = np.sort(np.stack([images.width, images.height], axis=1), axis=1)
        small = np.flatnonzero((self.reason == "") & (sides[:, 0] < rules.min_side))
        self.drop(small, "small", [f"{side} px" for side in sides[small, 0]])
        aspect = sides[:, 1] / np.maximum(1, sides[:, 0])
        extreme = np.flatnonzero((self.reason == "") & (aspect > rules.max_aspect))
        self.drop(extreme, "aspect", [f"{value:.2f} : 1" for value in aspect[extreme]])

    def check_captions(self, captions: CaptionJudgements, rules: CaptionRules) -> tuple[dict[str, int], np.ndarray]:
        """Drop images without a caption; return what became of the captions, and the keys that come too often."""
        seen = (self.reason == "")[captions.image]
        code = captions.code.copy()
        passed = np.flatnonzero(seen & (code == KEPT))
        frequent = self._frequent(captions.image[passed], captions.key[passed], rules.max_repeats)
        code[passed[np.isin(captions.key[passed], frequent)]] = list(CAPTION_FILTERS).index("frequent")
        left = np.bincount(captions.image[seen & (code == KEPT)], minlength=len(self.images))
        bare = np.flatnonzero((self.reason == "") & (left == 0))
        self.drop(bare, "caption", _caption_reasons(captions.image, code, bare))
        counts = np.bincount(code[seen], minlength=KEPT + 1).tolist()
        return dict(zip([*CAPTION_FILTERS, "kept"], counts, strict=True)), frequent

    def _frequent(self, image: np.ndarray, key: np.ndarray, most: int | None) -> np.ndarray:
        """Keys under more than ``most`` different images: copies of one image count once."""
        if most is None:
            return np.zeros(0, np.uint64)
        picture = _groups(self.images.digest)[image].astype(np.uint64)
        once = np.unique(np.stack([key, picture], axis=1), axis=0)[:, 0]
        keys, counts = np.unique(once, return_counts=True)
        return keys[counts > most]

    def drop_duplicates(self, rules: DuplicateRules) -> float | None:
        """Identical, then alike, then near images; returns the recall of the last, if it was searched."""
        alive = self.alive
        group = _groups(self.images.digest[alive])
        _, first = np.unique(group, return_index=True)
        self._drop_copies(alive, {place: first[group[place]] for place in _others(len(alive), first)}, "identical")
        if rules.bits >= 0:
            alive = self.alive
            found = hash_neighbours(self.images.hash[alive], self.images.colours[alive], rules.bits, rules.colour)
            self._drop_copies(alive, greedy_keepers(found), "alike", found)
        if self.images.embedding is None or rules.cosine is None:
            return None
        alive = self.alive
        embedding = self.images.embedding[alive]
        found = cosine_neighbours(embedding, rules.cosine)
        self._drop_copies(alive, greedy_keepers(found), "near", found)
        return cosine_recall(embedding, found, rules.cosine)

    def _drop_copies(
        self, alive: np.ndarray, keeper: dict[int, int], reason: str, found: NeighbourPairs | None = None
    ) -> None:
        """``keeper``: place among ``alive`` of a copy -> that of the image it copies."""
        ids = self.images.id[alive[np.array(list(keeper.values()), int)]].tolist()
        similarity = _similarities(found) if found else {}
        details = [f"{similarity.get((kept, copy), 1.0):.4f}" for copy, kept in keeper.items()]
        self.drop(alive[np.array(list(keeper), int)], reason, details, ids)

    def drop_overlap(self, evaluation: ImageMeasurements, rules: CurationRules) -> list[Match]:
        """ImageMeasurements that are also in an evaluation set; returns the pairs, and each evaluation image's nearest."""
        searches = {
            "eval_identical": lambda train: identical_matches(train, evaluation),
            "eval_alike": lambda train: alike_matches(train, evaluation, rules.duplicates),
            "eval_near": lambda train: clip_matches(train, evaluation, rules.overlap.cosine),
        }
        matches: list[Match] = []
        for reason, search in searches.items():
            alive = np.sort(self.alive)
            found = search(self.images.at(alive))
            dropped = [match for match in found if match.dropped]
            places = alive[np.array([match.train for match in dropped], int)]
            self.drop(places, reason, [f"{m.similarity:.4f}" for m in dropped], [m.eval_id for m in dropped])
            matches += found
        return matches


def greedy_keepers(found: NeighbourPairs) -> dict[int, int]:
    """Each dropped row -> the kept neighbour it goes for; rows are numbered from the best to the worst.

    A row is dropped if a better *kept* row is near it. Dropping whole chains of neighbours instead would lose images
    that are near nothing that stays.
    """
    keeper: dict[int, int] = {}
    order = np.lexsort((found.first, -found.similarity, found.second))
    for first, second in zip(found.first[order].tolist(), found.second[order].tolist(), strict=True):
        if first not in keeper:
            keeper.setdefault(second, first)
    return keeper


def _groups(values: np.ndarray) -> np.ndarray:
    """Bytes [n] -> int64 [n] that are equal where these are."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def _others(count: int, first: np.ndarray) -> list[int]:
    return np.setdiff1d(np.arange(count), first).tolist()


def _similarities(found: NeighbourPairs) -> dict[tuple[int, int], float]:
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    return dict(zip(pairs, found.similarity.tolist(), strict=True))


def _caption_reasons(image: np.ndarray, code: np.ndarray, bare: np.ndarray) -> list[str]:
    """What each image's captions were dropped for; ``none`` where it came without."""
    names = list(CAPTION_FILTERS)
    starts, ends = np.searchsorted(image, bare, "left"), np.searchsorted(image, bare, "right")
    return [
        ", ".join(names[reason] for reason in np.unique(code[start:end])) or "none"
        for start, end in zip(starts, ends, strict=True)
    ]
