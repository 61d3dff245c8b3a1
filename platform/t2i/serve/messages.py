"""What the gateway sends to the replicas and what they answer: small frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from t2i.engine.request import FinishedCandidate, PartialCandidate
from t2i.sampling import SamplingParams
from t2i.serve.generation.receipt import Setup


@dataclass(frozen=True)
class CaptionRequest:
    """A checked request to the prior: the caption in words, and how its image tokens are to be sampled.

    Attributes:
        id: the id of the request, for the log.
        client: who asked; clients share the slots evenly.
        prefix: image tokens with which every candidate begins.
        deadline: Unix time.
        ranking_s: about how many seconds pass after the last token until all images are ranked.
        preview_rows: candidates are also handed out after every so many rows of image tokens; 0: only when finished.
    """

    id: str
    client: str
    caption: str
    candidates: int
    seed: int
    sampling: SamplingParams
    prefix: tuple[int, ...]
    deadline: float
    ranking_s: float = 0.0
    preview_rows: int = 0


class QueueFullError(Exception):
    """What is to be done before a new request leaves it too little time: it lacks ``late_s`` seconds."""

    def __init__(self, late_s: float) -> None:
        super().__init__(late_s)
        self.late_s = late_s

    def __str__(self) -> str:
        return f"others' work leaves it {self.late_s:.1f} s too little."


class NotChangeableError(Exception):
    """The models of this service cannot be changed while it runs; the message says in one sentence how they are."""


@dataclass(frozen=True)
class ReplicaStarting:
    """No replica of the prior has answered yet: one is being started, or replaced."""


@dataclass(frozen=True)
class SampleRefused:
    """The prior's only event, if others leave a request ``late_s`` seconds too little.

    An exception would cost the replica many times as much, when there are the most of them.
    """

    late_s: float


@dataclass(frozen=True)
class SampleHeader:
    """The prior's first event, before any image token is made.

    Attributes:
        truncated: whether the caption has more tokens than the prior takes, so that its end is not read.
        text_tokens: how many of them are read.
        grid: rows and columns (h, w) of the image tokens that follow.
        setup: what computes for this model.
    """

    truncated: bool
    text_tokens: int
    grid: tuple[int, int]
    setup: Setup


@dataclass(frozen=True)
class SampleProgress:
    """How far a request is.

    Attributes:
        tokens_done: new image tokens made, over all candidates.
        tokens_total: how many there will be.
        position: place among the requests that wait for their first token, from 1; 0: it has begun.
        seconds_left: about how long sampling will still take; 0 if that is not known yet.
        steps: steps of the engine that made tokens for it.
    """

    tokens_done: int
    tokens_total: int
    position: int
    seconds_left: float
    steps: int = 0


@dataclass(frozen=True)
class SampledImages:
    """Image tokens that one step of the engine gave: candidates finished in it, and rows for previews."""

    finished: tuple[FinishedCandidate, ...]
    partial: tuple[PartialCandidate, ...]


@dataclass(frozen=True)
class DecodedImages:
    """The decoder's ``images`` uint8 [n, H, W, 3], and the SHA-256 of the dVAE's weights."""

    images: np.ndarray
    model: str


@dataclass(frozen=True)
class EncodedImages:
    """The image tokens int64 [n, h, w] of n images, and the SHA-256 of the dVAE's weights."""

    grids: np.ndarray
    model: str


@dataclass(frozen=True)
class RankedImages:
    """CLIP's cosine of each image, the images' indices best first, and the SHA-256 of CLIP's weights."""

    scores: list[float]
    order: list[int]
    model: str


class Step(Enum):
    """How far the addition of a model is."""

    QUEUE = "queue"
    LOAD = "load"
    SWITCH = "switch"
    SERVED = "served"


@dataclass(frozen=True)
class Added:
    """The progress of an addition: its step, how many stages are running, and what keeps the others from it."""

    step: Step
    stages_running: int = 0
    waits_for: str = ""
