"""The fields of OpenAI's Images API and ours, and the request that they make; nothing is clamped or passed over."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from t2i.protos.v1 import generation_pb2 as pb
from t2i.sampling import MAX_SEED, RequestError
from t2i.serve.generation.image_codec import QUALITY
from t2i.serve.generation.receipt import FILE_FORMATS
from t2i.serve.http.shape import ImageShape

INT32 = 2**31 - 1

CANDIDATES = {"auto": 1, "standard": 1, "low": 1, "medium": 4, "hd": 16, "high": 16}
"""Quality -> candidates that are drawn for each image that is returned."""

Quality = Literal["auto", "standard", "low", "medium", "hd", "high"]


class ImageFields(BaseModel):
    """What generations and edits have in common."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: str = Field(min_length=1, max_length=4096, description="what the images should show")
    model: str | None = Field(None, description="a name of /v1/models; by default the first")
    n: int | None = Field(None, ge=1, le=10, description="images to return, the best of the candidates; by default 1")
    size: str | None = Field(None, description="auto, or the size of the model, such as 256x256: it has only one")
    quality: Quality | None = Field(
        None,
        description="auto, standard or low: as many candidates as images; medium: 4, high or hd: 16 times as many",
    )
    response_format: Literal["b64_json", "url"] | None = Field(None, description="by default b64_json")
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="by default png")
    output_compression: int | None = Field(
        None, ge=0, le=100, description="quality of a jpeg or webp; by default 92; not for png, which is lossless"
    )
    background: Literal["auto", "opaque"] | None = Field(None, description="images are opaque")
    user: str | None = Field(None, max_length=256, description="is written into the log")
    stream: bool | None = Field(None, description="answer with server-sent events")
    partial_images: int | None = Field(
        None,
        ge=0,
        le=3,
        description="with stream: at most so many images of the first candidate's upper rows while it is drawn",
    )
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="the same seed gives the same images; by default a random one"
    )
    candidates: int | None = Field(
        None, ge=1, le=INT32, description="images to draw, of which CLIP chooses n; by default by quality"
    )
    temperature: float | None = Field(None, ge=0, le=100, description="of sampling; by default 1")
    top_k: int | None = Field(None, ge=0, le=INT32, description="sample from the k most likely image tokens; 0: all")
    top_p: float | None = Field(
        None, gt=0, le=1, description="sample from the likeliest image tokens that together have probability p; 1: all"
    )
    guidance: float | None = Field(
        None, ge=0, le=100, description="classifier-free guidance, for a prior trained with caption dropout; 1: none"
    )


class GenerationFields(ImageFields):
    """The body of ``POST /v1/images/generations``."""

    moderation: Literal["auto", "low"] | None = Field(None, description="there is none here: both mean the same")
    style: None = Field(None, description="models here have no styles")


class EditFields(ImageFields):
    """The fields of ``POST /v1/images/edits`` beside its files; they come as text."""

    model_config = ConfigDict(strict=False)


def check_together(fields: ImageFields) -> None:
    """Check what one field says of another.

    Raises:
        RequestError: two fields contradict each other.
    """
    if fields.partial_images and not fields.stream:
        raise RequestError("partial_images", "partial_images needs a stream: set stream to true, or leave it out.")
    if fields.stream and fields.response_format == "url":
        raise RequestError("response_format", "response_format is url, which a stream has not: use b64_json.")
    if fields.output_compression is not None and file_format(fields) == "png":
        raise RequestError(
            "output_compression", "output_compression is not for png: set output_format to jpeg or webp."
        )
    if fields.candidates is not None and fields.quality not in (None, "auto"):
        raise RequestError("quality", "quality says how many candidates are drawn: give it or candidates, not both.")
    if (fields.n or 1) > candidates(fields):
        raise RequestError("candidates", f"candidates is {candidates(fields)}, less than n: use at least {fields.n}.")


def check_size(size: str | None, shape: ImageShape) -> None:
    """Check the size that is asked for.

    Raises:
        RequestError: the model has another.
    """
    if size not in (None, "auto", size_of(shape)):
        raise RequestError("size", f"size is {size[:40]!r}: this model makes {size_of(shape)}, use that or auto.")


def size_of(shape: ImageShape) -> str:
    """Return the size of a model's images as the API writes it, width first."""
    return f"{shape.width}x{shape.height}"


def file_format(fields: ImageFields) -> str:
    """Return the format of the files to send."""
    return fields.output_format or FILE_FORMATS[0]


def file_quality(fields: ImageFields) -> int:
    """Return the quality of the files to send."""
    return QUALITY if fields.output_compression is None else fields.output_compression


def candidates(fields: ImageFields) -> int:
    """Return how many images to draw."""
    if fields.candidates is not None:
        return fields.candidates
    return (fields.n or 1) * CANDIDATES[fields.quality or "auto"]


def to_message(fields: ImageFields, shape: ImageShape) -> pb.GenerateRequest:
    """Return the same request as ``t2i.v1`` writes it, whose checks it then passes; fields left out are left out."""
    taken = {"seed", "temperature", "top_k", "top_p", "guidance", "model"}
    return pb.GenerateRequest(
        caption=fields.prompt,
        candidates=candidates(fields),
        keep=fields.n or 1,
        format=pb.ImageFormat.Value(f"IMAGE_FORMAT_{file_format(fields).upper()}"),
        preview_rows=preview_rows(fields.partial_images or 0, shape.rows),
        **fields.model_dump(include=taken, exclude_none=True),
    )


def preview_rows(partial_images: int, rows: int) -> int:
    """Return after how many of an image's ``rows`` rows of tokens each to send a preview, to send at most so many."""
    return -(-rows // (partial_images + 1)) if partial_images else 0
