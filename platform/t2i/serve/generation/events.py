"""What a request for images asks, and what comes of it, whichever door it came through."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from t2i.serve.generation.image_codec import QUALITY
from t2i.serve.messages import CaptionRequest


class Stage(Enum):
    """What is being done."""

    QUEUE = "queue"
    SAMPLE = "sample"
    DECODE = "decode"
    RANK = "rank"


@dataclass(frozen=True)
class Wanted:
    """A checked request: what the prior is asked, how many images to return, and as which files of what quality."""

    caption: CaptionRequest
    keep: int
    file_format: str
    quality: int = QUALITY


@dataclass(frozen=True)
class Progress:
    """How far a request is.

    Attributes:
        tokens_done: image tokens made, over all candidates; never falls.
        tokens_total: how many there will be.
        ranked: candidates that are decoded and ranked.
        position: place in the queue, from 1; 0: it has begun.
        seconds_left: about how long sampling will still take; 0 if that is not known.
    """

    stage: Stage
    tokens_done: int
    tokens_total: int
    ranked: int
    position: int
    seconds_left: float


@dataclass(frozen=True)
class Preview:
    """An image file of a candidate's first ``rows`` rows of tokens; once it is finished, of all, with its score."""

    candidate: int
    rows: int
    data: bytes
    score: float | None


@dataclass(frozen=True)
class Picture:
    """The file of one of the best images, the number of its candidate, and its CLIP cosine with the caption."""

    candidate: int
    data: bytes
    score: float


@dataclass(frozen=True)
class Receipt:
    """How the images came to be.

    Attributes:
        truncated: whether the end of the caption was not read.
        text_tokens: how many tokens of it were.
        models: hash of each model's weights, by stage.
        tokens_spent: image tokens made for it, those of lost replicas included.
        seconds: time from the start of the request to the end of its sampling, and from there to the last ranked image.
    """

    wanted: Wanted
    truncated: bool
    text_tokens: int
    models: dict[str, str]
    tokens_spent: int
    seconds: dict[str, float]


Event = Progress | Preview | Picture | Receipt
