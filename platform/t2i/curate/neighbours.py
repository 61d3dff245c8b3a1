"""All pairs of rows that are near each other, without comparing every row with every other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 1024
"""Rows of a similarity matrix that is held at once."""
PROBES = 2
"""Buckets each embedding is put into."""
ROUNDS = 4
SAMPLE = 256


@dataclass(frozen=True)
class NeighbourPairs:
    """Pairs ``first < second`` int64 [P], sorted, each once, and their ``similarity`` float32 [P]."""

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray


def hash_neighbours(hashes: np.ndarray, colours: np.ndarray, bits: int, colour: int) -> NeighbourPairs:
    """Pairs of equal-looking images; their similarity is 1 - (differing bits) / 64.

    Of uint64 hashes [n] at most ``bits`` bits differ, of colours uint8 [n, C] each by at most ``colour``. Hashes that
    differ in at most ``bits`` places agree in one of ``bits + 1`` bands (pigeonhole), so no pair is missed. Within a
    band equal values lie side by side, and rows are compared 1, 2, ... places apart until no run is that long.
    """
    found = [
        _close(first, second, hashes, colours, bits, colour)
        for band in _bands(hashes, bits + 1)
        for first, second in _equal_pairs(band)
    ]
    pairs = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)
    differing = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
    return NeighbourPairs(pairs[:, 0], pairs[:, 1], (1 - differing / 64).astype(np.float32))


def _bands(hashes: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """The 64 bits cut into ``count`` pieces, each as uint64 [n]."""
    edges = np.linspace(0, 64, count + 1).astype(int)
    for low, high in itertools.pairwise(edges):
        yield (hashes >> np.uint64(low)) & np.uint64(2 ** int(high - low) - 1)


def _equal_pairs(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair of places whose values are equal, in portions of at most n."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    start = np.arange(len(values))
    for step in range(1, len(values)):
        start = start[: np.searchsorted(start, len(values) - step)]
        start = start[ordered[start] == ordered[start + step]]
        if not len(start):
            return
        yield order[start], order[start + step]


def _close(
    first: np.ndarray, second: np.ndarray, hashes: np.ndarray, colours: np.ndarray, bits: int, colour: int
) -> np.ndarray:
    """Those of the pairs that are near, int64 [p, 2], the smaller place first."""
    near = np.bitwise_count(hashes[first] ^ hashes[second]) <= bits
    first, second = first[near], second[near]
    apart = np.abs(colours[first].astype(np.int16) - colours[second])
    alike = apart.max(axis=1, initial=0) <= colour
    return np.sort(np.stack([first[alike], second[alike]], axis=1), axis=1)


def cosine_neighbours(embeddings: np.ndarray, threshold: float, seed: int = 0) -> NeighbourPairs:
    """Pairs of unit rows [n, E] whose dot product is at least ``threshold``, but for a few that are missed.

    Rows are compared within buckets: each goes to its two nearest of about sqrt(n) spherical k-means centres, as
    SemDeDup does with one (Abbas et al. 2023). :func:`cosine_recall` says how many pairs that finds.
    """
    found = [
        np.sort(members[pairs], axis=1)
        for members in _buckets(embeddings, seed)
        for pairs in _pairs_within(embeddings[members], threshold)
    ]
    pairs = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)
    first, second = pairs[:, 0], pairs[:, 1]
    return NeighbourPairs(first, second, np.einsum("pe,pe->p", *(embeddings[side].astype(np.float32) for side in pairs.T)))


def _buckets(embeddings: np.ndarray, seed: int) -> list[np.ndarray]:
    """Row numbers of each bucket; one bucket where there are few rows."""
    count = int(np.sqrt(len(embeddings)))
    if len(embeddings) <= BLOCK:
        return [np.arange(len(embeddings))]
    centres = embeddings[np.random.default_rng(seed).choice(len(embeddings), count, replace=False)].astype(np.float32)
    for _ in range(ROUNDS):
        centres = _moved(centres, embeddings, _nearest_centres(embeddings, centres, 1)[:, 0])
    assigned = _nearest_centres(embeddings, centres, PROBES)
    return [np.flatnonzero((assigned == centre).any(axis=1)) for centre in range(count)]


def _nearest_centres(embeddings: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """int64 [n, count]."""
    nearest = [np.argpartition(-scores, count, axis=1)[:, :count] for _, scores in similarities(embeddings, centres)]
    return np.concatenate(nearest)


def _moved(centres: np.ndarray, embeddings: np.ndarray, assigned: np.ndarray) -> np.ndarray:
    """Each centre as the direction of its rows' sum; one without rows stays."""
    sums = np.zeros_like(centres)
    np.add.at(sums, assigned, embeddings.astype(np.float32))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)


def _pairs_within(rows: np.ndarray, threshold: float) -> Iterator[np.ndarray]:
    for start, scores in similarities(rows, rows):
        first, second = np.nonzero(scores >= threshold)
        first += start
        yield np.stack([first, second], axis=1)[first < second]


def similarities(rows: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Dot products of [n, E] with [m, E], ``BLOCK`` rows at a time: (first row, float32 [<= BLOCK, m])."""
    columns = others.astype(np.float32).T
    for start in range(0, len(rows), BLOCK):
        yield start, rows[start : start + BLOCK].astype(np.float32) @ columns


def cosine_recall(embeddings: np.ndarray, found: NeighbourPairs, threshold: float, seed: int = 0) -> float | None:
    """The share of all true pairs of 256 random rows that ``found`` has; none where these rows have no pair."""
    sample = np.sort(np.random.default_rng(seed).permutation(len(embeddings))[:SAMPLE])
    known = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    true = set()
    for start, scores in similarities(embeddings[sample], embeddings):
        for row, other in zip(*np.nonzero(scores >= threshold), strict=True):
            first, second = sorted((int(sample[start + row]), int(other)))
            true |= {(first, second)} if first != second else set()
    return len(true & known) / len(true) if true else None
