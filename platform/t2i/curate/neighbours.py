"""Find all pairs of near-duplicates among n rows without comparing every row with every other.

Both searches first put rows into groups such that near-duplicates share a group, and then compare only within groups:
hashes by their bands, which is exact (:func:`hash_neighbours`), embeddings by their nearest cluster centres, which
misses a few pairs (:func:`cosine_neighbours`); :func:`cosine_recall` measures how many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 1024
"""Rows of a similarity matrix in memory at once; if there are no more rows in all, buckets are not used."""
BUCKETS_PER_ROW = 2
"""Buckets that each embedding is put into: those of its nearest centres."""
KMEANS_ROUNDS = 4
RECALL_SAMPLE = 256
"""Rows that :func:`cosine_recall` compares with all rows."""


@dataclass(frozen=True)
class NeighbourPairs:
    """Pairs of near rows: the row numbers ``first < second`` int64 [pairs], and the ``similarity`` float32 [pairs].

    Pairs are sorted and without repetitions.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray


def hash_neighbours(hashes: np.ndarray, colours: np.ndarray, bits: int, colour: int) -> NeighbourPairs:
    """Return all pairs of images that look alike; their similarity is 1 - (differing bits) / 64.

    Two images look alike if their ``hashes`` (uint64 [n]) differ in at most ``bits`` bits and each of their
    ``colours`` (uint8 [n, cells]) by at most ``colour``.
    """
    # The 64 bits are cut into bits + 1 bands. If two hashes differ in at most `bits` bits, there is a band without a
    # differing bit (pigeonhole), so every pair is found among the rows that have equal values in some band:
    #
    #   bits = 3         band 0             band 1             band 2             band 3
    #   hash i ^ hash j  ..1.............   ......1.........   ................   ...........1....
    #   equal values     no                 no                 yes                no
    #
    # A pair that is equal in several bands is found several times; np.unique() leaves one.
    found = [
        _close(first, second, hashes, colours, bits, colour)
        for band in _bands(hashes, bits + 1)
        for first, second in _equal_pairs(band)
    ]
    pairs = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)
    differing = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
    return NeighbourPairs(pairs[:, 0], pairs[:, 1], (1 - differing / 64).astype(np.float32))


def _bands(hashes: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield the ``count`` bands of the hashes' 64 bits, from the lowest bits up, each as uint64 [n]."""
    edges = np.linspace(0, 64, count + 1).astype(int)
    for low, high in itertools.pairwise(edges):
        yield (hashes >> np.uint64(low)) & np.uint64(2 ** int(high - low) - 1)


def _equal_pairs(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every pair of rows with equal values once, in chunks of at most n pairs: two arrays of row numbers each."""
    # Sorted, equal values are runs. Compare each sorted position with the one `step` after it, step = 1, 2, ...;
    # where that fails the run has ended, so the position need not be tried with larger steps.
    #
    #   sorted values    a  a  a  b  c  c
    #   step 1 pairs     0-1  1-2        4-5
    #   step 2 pairs     0-2                       then nothing is left: stop
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    start = np.arange(len(values))
    for step in range(1, len(values)):
        start = start[: np.searchsorted(start, len(values) - step)]  # start + step must be a position
        start = start[ordered[start] == ordered[start + step]]
        if not len(start):
            return
        yield order[start], order[start + step]


def _close(
    first: np.ndarray, second: np.ndarray, hashes: np.ndarray, colours: np.ndarray, bits: int, colour: int
) -> np.ndarray:
    """Return the given pairs that look alike, without the others: int64 [pairs, 2], the smaller row number first."""
    near = np.bitwise_count(hashes[first] ^ hashes[second]) <= bits
    first, second = first[near], second[near]
    difference = np.abs(colours[first].astype(np.int16) - colours[second])
    alike = difference.max(axis=1, initial=0) <= colour
    return np.sort(np.stack([first[alike], second[alike]], axis=1), axis=1)


def cosine_neighbours(embeddings: np.ndarray, threshold: float, seed: int = 0) -> NeighbourPairs:
    """Return nearly all pairs of unit-norm rows [n, F] with a cosine of at least ``threshold``, and these cosines.

    As in SemDeDup (Abbas et al. 2023), rows are compared only within clusters of a spherical k-means, here with about
    sqrt(n) centres, and each row is in its two nearest clusters. Up to :data:`BLOCK_ROWS` rows are all compared, and
    no pair is missed.
    """
    # Rows of a pair are near each other, so they mostly have the same nearest centre. Where a border between two
    # clusters runs between them, each is still in the other's cluster as its second nearest:
    #
    #        centre A  .    |    .  centre B       i and j differ in their nearest centre, but both
    #                     i | j                    are in A and in B, and are compared in each.
    #
    # What is missed are pairs near a point where three clusters meet. With sqrt(n) clusters of about 2 sqrt(n) rows,
    # some n^1.5 cosines are computed instead of n^2.
    found = [
        np.sort(members[pairs], axis=1)
        for members in _buckets(embeddings, seed)
        for pairs in _pairs_within(embeddings[members], threshold)
    ]
    pairs = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)
    first, second = pairs[:, 0], pairs[:, 1]
    similarity = np.einsum("pf,pf->p", embeddings[first].astype(np.float32), embeddings[second].astype(np.float32))
    return NeighbourPairs(first, second, similarity)


def _buckets(embeddings: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the row numbers of each cluster, sorted; one cluster of all rows if there are few."""
    count = int(np.sqrt(len(embeddings)))
    if len(embeddings) <= BLOCK_ROWS:
        return [np.arange(len(embeddings))]
    centres = embeddings[np.random.default_rng(seed).choice(len(embeddings), count, replace=False)].astype(np.float32)
    for _ in range(KMEANS_ROUNDS):
        centres = _moved_centres(centres, embeddings, _nearest_centres(embeddings, centres, 1)[:, 0])
    assigned = _nearest_centres(embeddings, centres, BUCKETS_PER_ROW)
    return [np.flatnonzero((assigned == centre).any(axis=1)) for centre in range(count)]


def _nearest_centres(embeddings: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of each row's ``count`` nearest centres, in no order, int64 [n, count]."""
    nearest = [np.argpartition(-scores, count, axis=1)[:, :count] for _, scores in similarities(embeddings, centres)]
    return np.concatenate(nearest)


def _moved_centres(centres: np.ndarray, embeddings: np.ndarray, assigned: np.ndarray) -> np.ndarray:
    """Return each centre moved to the direction of the sum of its rows; one without rows stays."""
    sums = np.zeros_like(centres)
    np.add.at(sums, assigned, embeddings.astype(np.float32))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)


def _pairs_within(rows: np.ndarray, threshold: float) -> Iterator[np.ndarray]:
    """Yield the pairs ``first < second`` of rows whose cosine is at least ``threshold``, int64 [pairs, 2] at a time."""
    for start, scores in similarities(rows, rows):
        first, second = np.nonzero(scores >= threshold)
        first += start
        yield np.stack([first, second], axis=1)[first < second]


def similarities(rows: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield dot products of rows [n, F] with others [m, F] in blocks: (first row, float32 [up to BLOCK_ROWS, m])."""
    columns = others.astype(np.float32).T
    for start in range(0, len(rows), BLOCK_ROWS):
        yield start, rows[start : start + BLOCK_ROWS].astype(np.float32) @ columns


def cosine_recall(embeddings: np.ndarray, found: NeighbourPairs, threshold: float, seed: int = 0) -> float | None:
    """Estimate the share of all true pairs that ``found`` has, from the pairs of 256 random rows with all rows.

    None if these rows are in no pair.
    """
    sample = np.sort(np.random.default_rng(seed).permutation(len(embeddings))[:RECALL_SAMPLE])
    known = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    true = set()
    for start, scores in similarities(embeddings[sample], embeddings):
        for row, other in zip(*np.nonzero(scores >= threshold), strict=True):
            first, second = sorted((int(sample[start + row]), int(other)))
            true |= {(first, second)} if first != second else set()
    return len(true & known) / len(true) if true else None
