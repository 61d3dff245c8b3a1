from __future__ import annotations

import numpy as np
import pytest

from t2i.curate.decisions import greedy_keepers
from t2i.curate.neighbours import NeighbourPairs, cosine_neighbours, cosine_recall, hash_neighbours

RANDOM = np.random.default_rng(0)


def flipped(value: int, bits: int) -> int:
    for bit in RANDOM.choice(64, bits, replace=False):
        value ^= 1 << int(bit)
    return value


def pairs(found: NeighbourPairs) -> set[tuple[int, int]]:
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


@pytest.mark.parametrize("bits", [0, 1, 4, 7])
def test_bands_find_what_comparing_all_finds(bits: int) -> None:
    centres = RANDOM.integers(0, 2**63, 60).tolist()
    hashes = np.array([flipped(centre, int(RANDOM.integers(0, 4))) for centre in centres for _ in range(6)], np.uint64)
    colours = RANDOM.integers(0, 30, (len(hashes), 4)).astype(np.uint8)
    found = hash_neighbours(hashes, colours, bits, colour=20)
    expected = {
        (i, j)
        for j in range(len(hashes))
        for i in range(j)
        if int(hashes[i] ^ hashes[j]).bit_count() <= bits and np.abs(colours[i].astype(int) - colours[j]).max() <= 20
    }
    assert expected
    assert pairs(found) == expected
    assert found.similarity.min() >= 1 - bits / 64


def test_nothing_has_no_neighbours() -> None:
    nothing = hash_neighbours(np.zeros(0, np.uint64), np.zeros((0, 4), np.uint8), 4, 20)
    assert not len(nothing.first)
    assert not len(cosine_neighbours(np.zeros((0, 8), np.float16), 0.9).first)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("rows", [300, 4000])
def test_buckets_find_nearly_all_near_pairs(rows: int) -> None:
    centres = np.random.default_rng(1).normal(size=(rows // 4, 32))
    embeddings = unit(np.repeat(centres, 4, axis=0) + 0.12 * np.random.default_rng(2).normal(size=(rows, 32)))
    found = cosine_neighbours(embeddings, 0.97)
    scores = embeddings.astype(np.float32) @ embeddings.astype(np.float32).T
    expected = {(int(i), int(j)) for i, j in np.argwhere(np.triu(scores, 1) >= 0.97)}
    recall = len(expected & pairs(found)) / len(expected)
    assert len(expected) > rows // 2
    assert pairs(found) <= expected
    assert recall > 0.95
    estimate = cosine_recall(embeddings, found, 0.97)
    assert estimate == pytest.approx(recall, abs=0.05)


def test_no_pair_no_recall() -> None:
    embeddings = np.eye(8, dtype=np.float16)
    assert cosine_recall(embeddings, cosine_neighbours(embeddings, 0.9), 0.9) is None


def test_a_dropped_row_takes_nothing_with_it() -> None:
    """In a chain 0 - 1 - 2 - 3, 1 goes for 0, so that 2 is near nothing that stays and stays, and 3 goes for 2."""
    chain = NeighbourPairs(np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([0.9, 0.99, 0.9], np.float32))
    assert greedy_keepers(chain) == {1: 0, 3: 2}


def test_the_nearest_of_the_kept_rows_is_named() -> None:
    star = NeighbourPairs(np.array([0, 1]), np.array([2, 2]), np.array([0.9, 0.95], np.float32))
    assert greedy_keepers(star) == {2: 1}
