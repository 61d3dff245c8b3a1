"""MIND, the Monge Inception Distance: a sliced 2-Wasserstein distance of features (Berthet et al. 2026, 2605.06797)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

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
    cost, a_influence, b_influence = 0.0, np.zeros(n), np.zeros(n)
    for rows in row_blocks(directions, DIRECTIONS_BLOCK):
        for x, y in zip(units[rows] @ a.T, units[rows] @ b.T, strict=True):  # [n] each
            cost += _transport(x.astype(np.float64), y.astype(np.float64), a_influence, b_influence)
    scale = 3 * a.shape[1] / directions
    return Estimate(float(scale * cost), float(scale * ((a_influence.var() + b_influence.var()) / n) ** 0.5))


def _part(features: np.ndarray, n: int, random: torch.Generator) -> np.ndarray:
    """Return ``features`` if there are n of them, else n at random."""
    if len(features) == n:
        return features
    part: np.ndarray = features[torch.randperm(len(features), generator=random)[:n].numpy()]
    return part


def _unit_directions(count: int, width: int, random: torch.Generator) -> np.ndarray:
    """Return random directions of length 1: float32 [count, width]."""
    directions: np.ndarray = F.normalize(torch.randn(count, width, generator=random)).numpy()
    return directions


def _transport(x: np.ndarray, y: np.ndarray, x_influence: np.ndarray, y_influence: np.ndarray) -> float:
    """Return the squared 2-Wasserstein distance of numbers [n] and [n], and add each number's influence on it."""
    x_order, y_order = x.argsort(), y.argsort()
    x, y = x[x_order], y[y_order]
    x_influence[x_order] += _potential(x, y)
    y_influence[y_order] += _potential(y, x)
    return float(((x - y) ** 2).mean())


def _potential(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the integral of 2 (t - T(t)) at sorted x [n], where T maps them to sorted y: Kantorovich's potential."""
    steps = np.diff(x) * ((x - y)[1:] + (x - y)[:-1])  # trapezoids: twice the mean gap
    return np.concatenate([[0.0], np.cumsum(steps)])
