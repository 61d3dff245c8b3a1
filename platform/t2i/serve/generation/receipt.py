"""How images came to be, and what it takes to draw them again: as dataclasses, JSON and messages of ``t2i.v1``.

Receipt            of a request: what it cost, and
  Recipe           what the images follow from: the request, and
    Setup          what computed them: models, dtypes, versions
PictureRecipe      in an image file: the Recipe, and which candidate this is; nothing that differs between two
                   runs of the same request, so that their files have the same bytes
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message import Message

from models.errors import UserError
from t2i.sampling import SamplingParams

FILE_FORMATS = ("png", "jpeg", "webp")
"""The formats of image files, as users name them; the first is the default."""

MOST_CANDIDATES = 1 << 20
"""That a recipe may have: it may come from a stranger, and candidates before a picture's own take time and memory."""

RecordT = TypeVar("RecordT")
MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True)
class StageSetup:
    """What the results of one stage depend on besides its input.

    Attributes:
        weights: SHA-256 of the model's weights.
        dtype: what it computes in.
        device: cpu or cuda, and which kind of it.
        batch: rows that are computed at once: slots of the prior, images of the others. Others round differently.
        threads: that it computes with on a CPU.
    """

    weights: str
    dtype: str
    device: str
    batch: int
    threads: int


@dataclass(frozen=True)
class Setup:
    """What computes for one model.

    Attributes:
        tokenizer: SHA-256 of the tokenizer.
        captions: different captions that the prior samples at once.
        compiled: whether the prior's step is compiled.
        engine: :data:`t2i.engine.ENGINE_VERSION`.
        package: version of this package.
        torch: version of PyTorch.
    """

    tokenizer: str
    prior: StageSetup
    decoder: StageSetup
    reranker: StageSetup
    captions: int
    compiled: bool
    engine: int
    package: str
    torch: str


@dataclass(frozen=True)
class Prefix:
    """The ``rows`` of image tokens in raster order with which every candidate begins, and their hash."""

    rows: int
    image_tokens: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, image_tokens: Sequence[int], width: int) -> Prefix:
        """Return the prefix of these image tokens of a grid of this width."""
        return cls(len(image_tokens) // width, tuple(image_tokens), tokens_hash(np.asarray(image_tokens)))


@dataclass(frozen=True)
class Recipe:
    """What images follow from: the same recipe gives the same images.

    Attributes:
        truncated: whether the end of the caption was not read.
        prefix: None if the candidates begin with nothing.
        keep: how many of the ``candidates`` are returned.
        model: the name of the model at the service.
    """

    caption: str
    truncated: bool
    seed: int
    sampling: SamplingParams
    candidates: int
    keep: int
    model: str
    setup: Setup
    prefix: Prefix | None = None


@dataclass(frozen=True)
class Receipt:
    """A recipe, what came of it and what it cost.

    Attributes:
        best: the numbers of the candidates that were returned, best first.
        tokens_spent: image tokens made for it, those of lost replicas included.
        tokens_per_step: image tokens that one step of the engine made for it, on average.
        seconds: by stage: queue, until the first image token; sample, until the last; rank, from there until the last
            image was decoded and ranked, as most are before; encode, of the files.
    """

    recipe: Recipe
    best: tuple[int, ...]
    tokens_spent: int
    tokens_per_step: float
    seconds: dict[str, float]

    @property
    def weights(self) -> dict[str, str]:
        """The SHA-256 of the weights of prior, decoder and reranker."""
        setup = self.recipe.setup
        return {name: getattr(setup, name).weights for name in ("prior", "decoder", "reranker")}


@dataclass(frozen=True)
class PictureRecipe:
    """The recipe of one picture, as its file has it.

    Attributes:
        candidate: its number, from 0.
        score: CLIP's cosine with the caption.
        grid: rows and columns (h, w) of its image tokens.
        file_format: png, jpeg or webp.
        quality: of a jpeg or webp, 1 to 100.
        tokens_sha256: hash of its image tokens (:func:`tokens_hash`), as pixels of a lossy file cannot tell.
        pixels_sha256: hash of its pixels (:func:`pixels_hash`) before the file was made.
    """

    recipe: Recipe
    candidate: int
    score: float
    grid: tuple[int, int]
    file_format: str
    quality: int
    tokens_sha256: str
    pixels_sha256: str

    def __post_init__(self) -> None:
        if not 0 <= self.candidate < self.recipe.candidates <= MOST_CANDIDATES:
            raise ValueError(f"candidate is {self.candidate} of {self.recipe.candidates}")
        if self.file_format not in FILE_FORMATS or not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality} of {self.file_format!r}")


class RecipeError(UserError):
    """A recipe that is damaged."""


def tokens_hash(image_tokens: np.ndarray) -> str:
    """Return the SHA-256 of image tokens int of any shape, as little-endian int32 in raster order."""
    return hashlib.sha256(np.ascontiguousarray(image_tokens, "<i4").tobytes()).hexdigest()


def pixels_hash(image: np.ndarray) -> str:
    """Return the SHA-256 of an image uint8 [H, W, 3], of its shape and its bytes in raster order."""
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def to_json(record: Any) -> str:
    """Return one of these dataclasses as JSON on one line; characters beyond ASCII stay as they are."""
    return json.dumps(asdict(record), ensure_ascii=False, separators=(",", ":"))


def from_json(kind: type[RecordT], text: str | bytes) -> RecordT:
    """Return the dataclass ``kind`` that :func:`to_json` made ``text`` of; fields of later versions are left out.

    Raises:
        RecipeError: it is no such JSON, or a value is not of its type.
    """
    from pydantic import TypeAdapter, ValidationError  # here, since most calls of the client need no parser

    try:
        return TypeAdapter(kind).validate_json(text)
    except (ValidationError, UserError) as error:
        raise RecipeError(f"the recipe is damaged ({_first_problem(error)}).") from error


def to_message(record: Any, kind: type[MessageT]) -> MessageT:
    """Return one of these dataclasses as the message ``kind`` of ``t2i.v1`` with the same fields."""
    return Parse(to_json(record), kind())


def from_message(kind: type[RecordT], message: Message) -> RecordT:
    """Return the dataclass ``kind`` that a message of ``t2i.v1`` with the same fields holds.

    Raises:
        RecipeError: a value is not of its type.
    """
    text = MessageToJson(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return from_json(kind, text)


def differences(one: Any, other: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield name (dotted) and both values of every field in which two of these dataclasses differ."""
    for field in fields(one):
        before, after = getattr(one, field.name), getattr(other, field.name)
        dotted = f"{name}.{field.name}".lstrip(".")
        if is_dataclass(before) and is_dataclass(after):
            yield from differences(before, after, dotted)
        elif before != after:
            yield dotted, before, after


def _first_problem(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error).rstrip(".")
    first = errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{place}: {message}" if place else message
