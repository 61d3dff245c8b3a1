"""MIND, the Monge Inception Distance: a sliced 2-Wasserstein distance of features (Berthet et al. 2026, 2605.06797)."""

from __future__ import annotations

import numpy as np
import torch

from t2i.metrics.blocks import row_blocks
from t2i.metrics.intervals import Estimate

DIRECTIONS_BLOCK = 32
"""Directions along which all features are sorted at once."""


def mind(a: np.ndarray, b: np.ndarray, *, directions: int = 1000, seed: int = 2020) -> Estimate:
    """Return MIND between features [n, F] and [m, F], and its standard error.

    It is 3 F times the mean, over random ``directions`` of unit length, of the squared 2-Wasserstein distance between
    the sides' projections, which in one dimension pairs the sorted values. If one side is larger, a random part of it
    that is as large as the other is used. That part and the directions are torch-fidelity 0.5's for the same seed. The
    standard error is for other images along the same directions (delta method).
    """
    random = torch.Generator().manual_seed(seed)
    n = min(len(a), len(b))
    a, b = _part(a, n, random), _part(b, n, random)
    units = _unit_directions(directions, a.shape[1], random)
    blocks = [_transport(units[rows], a, b) for rows in row_blocks(directions, DIRECTIONS_BLOCK)]
    cost, a_influence, b_influence = (sum(part) / directions for part in zip(*blocks, strict=True))
    scale = 3 * a.shape[1]
    return Estimate(float(scale * cost), float(scale * ((a_influence.var() + b_influence.var()) / n) ** 0.5))


def _part(features: np.ndarray, n: int, random: torch.Generator) -> np.ndarray:
    """Return ``features`` if there are n of them, else n at random."""
    if len(features) == n:
        return features
    return features[torch.randperm(len(features), generator=random)[:n].numpy()]


def _unit_directions(count: int, width: int, random: torch.Generator) -> np.ndarray:
    """Return random directions of length 1: float32 [count, width]."""
    normal = torch.randn(count, width, generator=random)
    directions: np.ndarray = (normal / normal.norm(dim=1, keepdim=True)).numpy()
    return directions


def _transport(units: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return, summed over directions, the mean squared transport [1] and each image's influence on it, [n] and [n]."""
    cost, a_influence, b_influence = 0.0, np.zeros(len(a)), np.zeros(len(b))
    for x, y in zip(units @ a.T, units @ b.T, strict=True):  # [n] each
        x_order, y_order = x.argsort(), y.argsort()
        x, y = x[x_order].astype(np.float64), y[y_order].astype(np.float64)
        cost += float(((x - y) ** 2).mean())
        a_influence[x_order] += _potential(x, y)
        b_influence[y_order] += _potential(y, x)
    return cost, a_influence, b_influence


def _potential(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the integral of 2 (t - T(t)) at sorted x [n], where T maps them to sorted y: Kantorovich's potential."""
    steps = np.diff(x) * ((x - y)[1:] + (x - y)[:-1])  # trapezoids: twice the mean gap
    return np.concatenate([[0.0], np.cumsum(steps)])
