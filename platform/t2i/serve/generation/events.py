"""What a request for images asks, and what comes of it, whichever door it came through."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from t2i.serve.generation.image_codec import QUALITY
from t2i.serve.generation.receipt import Receipt
from t2i.serve.messages import CaptionRequest


class Stage(Enum):
    """What is being done; STARTING: no replica of the prior answers yet, one is being started or replaced."""

    STARTING = "starting"
    QUEUE = "queue"
    SAMPLE = "sample"
    DECODE = "decode"
    RANK = "rank"


@dataclass(frozen=True)
class Wanted:
    """A checked request: what the prior is asked, how many images to return, and as which files of what quality.

    ``model`` is the name of the model; with ``metadata`` the files hold their recipe.
    """

    caption: CaptionRequest
    keep: int
    file_format: str
    model: str = ""
    metadata: bool = True
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


Event = Progress | Preview | Picture | Receipt
