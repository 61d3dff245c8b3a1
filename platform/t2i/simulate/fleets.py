"""How a number of GPUs is shared out among the stages, and what the whole can answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from t2i.serve.config import GATEWAYS_PER_NODE
from t2i.serve.replicas.engine_loop import PROGRESS_S
from t2i.simulate.costs import ServiceCosts
from t2i.simulate.service import APART, PROGRESSES, TOGETHER, Fleet

GATEWAY_LOAD = 0.7
"""Share of their time that gateways may be busy when the GPUs are: a queue in front of them costs every request."""

MANY = 10**9
"""Gateways that no load fills."""

APART_FROM = 0.95
"""Stages get GPUs of their own where that leaves so much of what all stages on every GPU could answer."""


@dataclass(frozen=True)
class Work:
    """The seconds that a request costs a replica of each stage, which is always busy with others like it."""

    prior: float
    decoder: float
    reranker: float
    gateway: float

    @classmethod
    def of(cls, costs: ServiceCosts, candidates: int, keep: int) -> Work:
        """Return the work of a request of these numbers of images."""
        told = min(PROGRESSES, costs.prior.request_s(candidates) / PROGRESS_S)
        return cls(
            costs.prior.request_s(candidates),
            candidates / costs.decoder.images_per_second(),
            candidates / costs.reranker.images_per_second(),
            costs.gateway.request_s + told * costs.gateway.progress_s + keep * costs.gateway.image_s,
        )

    @property
    def device_s(self) -> float:
        """Seconds of a GPU, of all stages."""
        return self.prior + self.decoder + self.reranker


def capacities(fleet: Fleet, work: Work) -> dict[str, float]:
    """Return how many requests a second each part of a fleet of GPUs can answer."""
    gateways = {"gateways": fleet.gateways / work.gateway if work.gateway else math.inf}
    if fleet.placement == TOGETHER:
        return {"GPUs": fleet.priors / work.device_s} | gateways
    behind = fleet.decoders / (work.decoder + work.reranker)
    return {"prior": fleet.priors / work.prior, "decoder and reranker": behind} | gateways


def capacity(fleet: Fleet, work: Work) -> float:
    """Return how many requests a second a fleet can answer: as many as the part that is the first to be full."""
    return min(capacities(fleet, work).values())


def together(gpus: int, work: Work) -> Fleet:
    """Return the fleet in which every GPU has all stages, with gateways enough."""
    return _with_gateways(Fleet(gpus, gpus, gpus, placement=TOGETHER), work)


def apart(gpus: int, behind: int, work: Work) -> Fleet:
    """Return the fleet in which GPUs ``behind`` have a decoder and a reranker each, and all others a prior."""
    return _with_gateways(Fleet(gpus - behind, behind, behind, placement=APART), work)


def fleet_of(gpus: int, work: Work) -> Fleet:
    """Return how so many GPUs are best shared out."""
    shared = together(gpus, work)
    splits = (apart(gpus, behind, work) for behind in range(1, gpus))
    best = max(splits, key=lambda fleet: capacity(fleet, work), default=shared)
    return best if capacity(best, work) >= APART_FROM * capacity(shared, work) else shared


def _with_gateways(fleet: Fleet, work: Work) -> Fleet:
    most = capacity(replace(fleet, gateways=MANY), work)
    return replace(fleet, gateways=max(GATEWAYS_PER_NODE, math.ceil(most * work.gateway / GATEWAY_LOAD)))
