"""Costs of a service that is quick to reckon with, and loads that come to it."""

from __future__ import annotations

from t2i.simulate.arrivals import Load
from t2i.simulate.costs import BatchCosts, GatewayCosts, PriorCosts, ServiceCosts

NOTHING = 1e-9
FREE = BatchCosts(size=8, batch_s=NOTHING)
"""Of a decoder or reranker that never holds a request up."""


def costs(
    prior: PriorCosts | None = None,
    decoder: BatchCosts = FREE,
    reranker: BatchCosts = FREE,
    gateway: GatewayCosts | None = None,
) -> ServiceCosts:
    """What is not given costs nothing; a prior makes 10 images a second, each in 0.8 s."""
    prior = prior or PriorCosts(slots=8, image_tokens=16, step_s=0.05, prefill_s=0.0)
    return ServiceCosts(prior, decoder, reranker, gateway or GatewayCosts(0.0, 0.0, 0.0, 0.0), start_s=20.0)


def load(rate: float, seconds: float, **settings: object) -> Load:
    """Requests for one image, which have as much time as they need."""
    wanted = {"candidates": 1, "keep": 1, "deadline": 1e6, "uncounted": 0.0, **settings}
    return Load(rate=rate, seconds=seconds, **wanted)  # type: ignore[arg-type]
