"""Each mask against the paper's words, one query and key at a time."""

from __future__ import annotations

import itertools

import pytest
import torch

from models.prior.masks import Kind, image_mask, layer_kind, stream_mask


def sees(kind: str, q: int, k: int, width: int) -> bool:
    if k > q:
        return False
    if kind == "row":
        return q - k <= width
    if kind == "column":
        return q % width == k % width
    return any(q - k == up * width + aside for up in range(6) for aside in range(-5, 6))


@pytest.mark.parametrize("kind", ["row", "column", "conv"])
@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (16, 16), (5, 13)])
def test_image_mask_is_the_papers(kind: Kind, grid: tuple[int, int]) -> None:
    mask = image_mask(kind, grid)
    for q, k in itertools.product(range(grid[0] * grid[1]), repeat=2):
        assert mask[q, k] == sees(kind, q, k, grid[1])


@pytest.mark.parametrize(("kind", "mean"), [("row", 32.5), ("column", 16.5), ("conv", 55.8)])
def test_mean_keys_per_query_at_the_papers_grid(kind: Kind, mean: float) -> None:
    assert image_mask(kind, (32, 32)).float().sum(1).mean().item() == pytest.approx(mean, abs=0.05)


def test_layer_pattern_is_one_indexed_and_ends_with_conv() -> None:
    kinds = [layer_kind(layer, 10) for layer in range(10)]
    assert kinds == ["row", "column", "row", "row", "row", "column", "row", "row", "row", "conv"]


def test_every_image_token_sees_the_whole_prefix_and_no_prefix_token_sees_the_image() -> None:
    mask = stream_mask("row", 6, (4, 4))
    assert mask[6:, :6].all()
    assert not mask[:6, 6:].any()
    assert torch.equal(mask[:6, :6], torch.ones(6, 6, dtype=torch.bool).tril())
