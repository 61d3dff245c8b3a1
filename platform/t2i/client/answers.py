"""What a service answers, as small frozen dataclasses."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from t2i.protos.v1.receipt_pb2 import Receipt

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class GenerationProgress:
    """How far a request is.

    Attributes:
        stage: queue, sample, decode or rank; starting: the service waits for a replica that is being started.
        tokens_done: image tokens made so far, over all candidates; ``tokens_total`` will be made.
        candidates_ranked: candidates that are decoded and ranked.
        queue_position: place among the requests that wait, from 1; 0: it has begun.
        seconds_left: about how long sampling will still take; 0 if that is not known.
    """

    stage: str
    tokens_done: int
    tokens_total: int
    candidates_ranked: int
    queue_position: int
    seconds_left: float


@dataclass(frozen=True)
class Preview:
    """An image file of a candidate's first ``rows`` rows of tokens; once it is ranked, of the whole, with its score."""

    data: bytes
    format: str
    candidate: int
    rows: int
    score: float | None


@dataclass(frozen=True)
class GeneratedImage:
    """An image file ``data`` in ``format``, the number of its candidate, and its CLIP cosine with the caption."""

    data: bytes
    format: str
    candidate: int
    score: float

    def pil(self) -> Image.Image:
        """Return the image decoded."""
        from PIL import Image  # who only stores the file does without

        return Image.open(io.BytesIO(self.data))


@dataclass(frozen=True)
class Summary:
    """How the images were made: the same ``seed`` with the same ``models`` gives the same images.

    ``tokens_spent`` counts the image tokens made; ``models`` are hashes of the weights of prior, decoder and reranker;
    ``receipt`` is the message with all that the images follow from.
    """

    seed: int
    tokens_spent: int
    caption_truncated: bool
    models: dict[str, str]
    receipt: Receipt = field(compare=False)  # what it cost differs between two runs of one request


Event = GenerationProgress | Preview | GeneratedImage | Summary


@dataclass(frozen=True)
class Answer:
    """The best images, best first, and how they were made."""

    images: list[GeneratedImage]
    summary: Summary
