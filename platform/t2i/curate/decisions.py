"""Decide which images and captions are kept, and record why the others are dropped.

The filters run one after the other, each on the images that the earlier ones have left::

    unreadable -> small -> aspect -> caption -> identical -> alike -> near -> eval_identical -> eval_alike -> eval_near

Which of two copies is kept follows from their sizes and ids alone, so the result does not depend on blocks, workers or
the order of the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from t2i.curate.caption_filters import CAPTION_FILTERS
from t2i.curate.config import CaptionRules, CurationRules, DuplicateRules, ImageRules
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
"""The filters of images, in the order in which they are applied, and what each drops."""


@dataclass(frozen=True)
class Decisions:
    """What was decided about n images and their captions.

    For each image, as object arrays [n] of str: ``reason`` is the filter that dropped it (empty if it is kept),
    ``detail`` a number or text to go with it, and ``partner`` the id of the image that it is a copy of (or empty).

    ``captions`` maps each caption filter, and ``kept``, to the number of captions; ``frequent`` holds the keys of
    captions that are repeated too often (uint64, sorted); ``matches`` are pairs of training and evaluation images;
    ``recall`` is that of the near-duplicate search by CLIP, or None.
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
        """Return the row numbers of the images that are kept."""
        return np.flatnonzero(self.reason == "")

    def counts(self) -> dict[str, int]:
        """Return the number of images that each filter dropped, in the order of the filters."""
        found = Counter(self.reason.tolist())
        return {name: found[name] for name in IMAGE_FILTERS}


def decide(
    images: ImageMeasurements, captions: CaptionJudgements, evaluation: ImageMeasurements | None, rules: CurationRules
) -> Decisions:
    """Run all filters; ``evaluation`` holds the images of all evaluation sets, if there are any."""
    funnel = _Funnel(images)
    funnel.check_images(rules.images)
    counted, frequent = funnel.check_captions(captions, rules.captions)
    recall = funnel.drop_duplicates(rules.duplicates)
    matches = funnel.drop_overlap(evaluation, rules) if evaluation is not None and len(evaluation) else []
    return Decisions(funnel.reason, funnel.detail, funnel.partner, counted, frequent, matches, recall)


class _Funnel:
    """The filters, and the reason, detail and partner of each image that they have dropped so far."""

    def __init__(self, images: ImageMeasurements) -> None:
        self.images = images
        self.reason, self.detail, self.partner = (np.full(len(images), "", object) for _ in range(3))

    @property
    def remaining(self) -> np.ndarray:
        """Rows of the images that no filter has dropped, the preferred ones first: the largest, then by id."""
        remaining = np.flatnonzero(self.reason == "")
        area = self.images.width[remaining].astype(np.int64) * self.images.height[remaining]
        return remaining[np.argsort(-area, kind="stable")]  # stable: equal areas stay in the order of their ids

    def drop(self, rows: np.ndarray, reason: str, detail: list[str], partner: list[str] | None = None) -> None:
        """Record that the images ``rows`` are dropped by the filter ``reason``."""
        self.reason[rows], self.detail[rows] = reason, np.array(detail, object)
        if partner is not None:
            self.partner[rows] = np.array(partner, object)

    def check_images(self, rules: ImageRules) -> None:
        """Drop images that cannot be decoded, are too small, or too long or tall."""
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
        """Drop images of which no caption is kept.

        Returns:
            The number of captions that each caption filter dropped and that are kept, and the keys of the captions that
            are repeated too often.
        """
        # Captions of images that are dropped already are not counted. Repetitions are counted among those that the
        # other filters keep, and a caption that is repeated too often is dropped from all of its images.
        counted = (self.reason == "")[captions.image]
        code = captions.code.copy()
        passed = np.flatnonzero(counted & (code == KEPT))
        frequent = self._frequent_keys(captions.image[passed], captions.key[passed], rules.max_repeats)
        code[passed[np.isin(captions.key[passed], frequent)]] = list(CAPTION_FILTERS).index("frequent")
        captions_left = np.bincount(captions.image[counted & (code == KEPT)], minlength=len(self.images))
        bare = np.flatnonzero((self.reason == "") & (captions_left == 0))
        self.drop(bare, "caption", _caption_reasons(captions.image, code, bare))
        counts = np.bincount(code[counted], minlength=KEPT + 1).tolist()
        return dict(zip([*CAPTION_FILTERS, "kept"], counts, strict=True)), frequent

    def _frequent_keys(self, image: np.ndarray, key: np.ndarray, max_repeats: int | None) -> np.ndarray:
        """Return the keys that are under more than ``max_repeats`` different pictures, uint64, sorted.

        Images with identical pixels are one picture: a caption is not frequent because its image was copied.
        """
        if max_repeats is None:
            return np.zeros(0, np.uint64)
        picture = _group_numbers(self.images.digest)[image].astype(np.uint64)
        key_of_each_picture = np.unique(np.stack([key, picture], axis=1), axis=0)[:, 0]
        keys, counts = np.unique(key_of_each_picture, return_counts=True)
        return keys[counts > max_repeats]

    def drop_duplicates(self, rules: DuplicateRules) -> float | None:
        """Drop images that are copies of another: identical ones, then by hash, then by CLIP.

        Returns:
            The recall of the search by CLIP; None if there is no CLIP, or no pair to find.
        """
        # Each search is given the images that remain in the order of preference, so that of two rows of a search the
        # smaller one is the image to keep. Its row numbers are positions in `remaining`.
        remaining = self.remaining
        group = _group_numbers(self.images.digest[remaining])
        _, first = np.unique(group, return_index=True)
        copies = np.setdiff1d(np.arange(len(remaining)), first).tolist()
        self._drop_copies(remaining, {copy: int(first[group[copy]]) for copy in copies}, "identical")
        if rules.bits >= 0:
            remaining = self.remaining
            hashes, colours = self.images.hash[remaining], self.images.colours[remaining]
            found = hash_neighbours(hashes, colours, rules.bits, rules.colour)
            self._drop_copies(remaining, greedy_keepers(found), "alike", found)
        if self.images.embedding is None or rules.cosine is None:
            return None
        remaining = self.remaining
        embedding = self.images.embedding[remaining]
        found = cosine_neighbours(embedding, rules.cosine)
        self._drop_copies(remaining, greedy_keepers(found), "near", found)
        return cosine_recall(embedding, found, rules.cosine)

    def _drop_copies(
        self, remaining: np.ndarray, keeper: dict[int, int], reason: str, found: NeighbourPairs | None = None
    ) -> None:
        """Drop the copies that ``keeper`` maps to the image they are a copy of (both positions in ``remaining``)."""
        kept_ids = self.images.id[remaining[np.array(list(keeper.values()), int)]].tolist()
        similarity = _similarity_of_pairs(found) if found else {}
        details = [f"{similarity.get((kept, copy), 1.0):.4f}" for copy, kept in keeper.items()]
        self.drop(remaining[np.array(list(keeper), int)], reason, details, kept_ids)

    def drop_overlap(self, evaluation: ImageMeasurements, rules: CurationRules) -> list[Match]:
        """Drop images that are also in an evaluation set; return all matches, those below the threshold included."""
        searches: dict[str, Callable[[ImageMeasurements], list[Match]]] = {
            "eval_identical": lambda train: identical_matches(train, evaluation),
            "eval_alike": lambda train: alike_matches(train, evaluation, rules.duplicates),
            "eval_near": lambda train: clip_matches(train, evaluation, rules.overlap.cosine),
        }
        matches: list[Match] = []
        for reason, search in searches.items():
            remaining = np.sort(self.remaining)
            found = search(self.images.at(remaining))
            dropped = [match for match in found if match.dropped]
            rows = remaining[np.array([match.train for match in dropped], int)]
            self.drop(rows, reason, [f"{m.similarity:.4f}" for m in dropped], [m.eval_id for m in dropped])
            matches += found
        return matches


def greedy_keepers(found: NeighbourPairs) -> dict[int, int]:
    """Return the rows to drop, each with the kept row that it is a copy of; rows are numbered in order of preference.

    Going through the rows in order, a row is dropped if a row that is *kept* is near it; of several, the most similar
    one (then the smallest) is named. So no two kept rows are near each other, and each dropped row is near a kept one.
    """
    # Example, a chain in which only neighbours are near:   0 -- 1 -- 2 -- 3
    #   row 1 is dropped for 0, which is kept
    #   row 2 is kept: 1 is near it but was dropped, and nothing that is kept is near it
    #   row 3 is dropped for 2
    # Dropping the whole chain but 0 would lose 2 and 3, which are near nothing that is kept.
    #
    # One pass suffices: pairs come sorted by `second`, so when the pairs of a row come, all smaller rows, hence every
    # possible `first`, are decided. Within a row they come by falling similarity, and setdefault() keeps the first.
    keeper: dict[int, int] = {}
    order = np.lexsort((found.first, -found.similarity, found.second))  # the last key is the primary one
    for first, second in zip(found.first[order].tolist(), found.second[order].tolist(), strict=True):
        if first not in keeper:
            keeper.setdefault(second, first)
    return keeper


def _group_numbers(values: np.ndarray) -> np.ndarray:
    """Return numbers int64 [n] that are equal where the values (bytes [n]) are."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def _similarity_of_pairs(found: NeighbourPairs) -> dict[tuple[int, int], float]:
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    return dict(zip(pairs, found.similarity.tolist(), strict=True))


def _caption_reasons(image: np.ndarray, code: np.ndarray, bare: np.ndarray) -> list[str]:
    """Return for each image in ``bare`` the filters that dropped its captions, or ``none`` if it had no caption.

    ``image`` (sorted) and ``code`` are those of all captions.
    """
    names = list(CAPTION_FILTERS)
    starts, ends = np.searchsorted(image, bare, "left"), np.searchsorted(image, bare, "right")
    return [
        ", ".join(names[reason] for reason in np.unique(code[start:end])) or "none"
        for start, end in zip(starts, ends, strict=True)
    ]
