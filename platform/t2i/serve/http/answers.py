"""The answers of the Images API: one body, or events while the images are drawn."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from pydantic import BaseModel

from models.manifest import SHORT
from t2i.serve.generation.calls import Calls
from t2i.serve.generation.events import Event, Picture, Preview
from t2i.serve.generation.receipt import Receipt
from t2i.serve.http.event_stream import event


class TokenDetails(BaseModel):
    """What was read."""

    text_tokens: int
    image_tokens: int


class Usage(BaseModel):
    """Tokens read and made; ``output_tokens`` are the image tokens of all candidates."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    total_tokens: int


class ImageData(BaseModel):
    """An image, the number of its candidate, and CLIP's cosine of it and the prompt."""

    b64_json: str | None = None
    url: str | None = None
    candidate: int
    score: float


class ImagesAnswer(BaseModel):
    """The images, best first, and how they were made."""

    created: int
    data: list[ImageData]
    background: str
    output_format: str
    quality: str
    size: str
    usage: Usage
    seed: int
    prompt_truncated: bool
    models: dict[str, str]


async def whole_answer(
    events: AsyncIterator[Event],
    described: dict[str, str],
    address: Callable[[bytes], Awaitable[str]] | None,
    calls: Calls,
) -> ImagesAnswer:
    """Return all images in one body; ``address`` keeps an image and returns where it is fetched (None: base64)."""
    data = []
    async for each in events:
        match each:
            case Picture():
                where = {"url": await address(each.data)} if address else {"b64_json": _base64(each.data)}
                data.append(ImageData(candidate=each.candidate, score=each.score, **where))
            case Receipt():
                receipt = each
    return ImagesAnswer(
        created=int(time.time()),
        data=data,
        usage=usage_of(receipt, calls),
        seed=receipt.recipe.seed,
        prompt_truncated=receipt.recipe.truncated,
        models={stage: weights[:SHORT] for stage, weights in receipt.weights.items()},
        **described,
    )


async def events_of(
    events: AsyncIterator[Event], described: dict[str, str], kind: str, rows: int, created: int, calls: Calls
) -> AsyncGenerator[bytes]:
    """Yield ``{kind}.partial_image`` of the first candidate, then ``{kind}.completed`` for each image, best first.

    The usage of all is in the last event, none in those before.
    """
    partial, pictures = 0, []
    async for each in events:
        match each:
            case Preview(candidate=0) if each.rows < rows:
                index = {"partial_image_index": partial}
                yield _image_event(f"{kind}.partial_image", each.data, described, {"created_at": created, **index})
                partial += 1
            case Picture():
                pictures.append(each)
            case Receipt():
                for more in _completed(pictures, each, calls):
                    yield _image_event(
                        f"{kind}.completed", more.pop("data"), described, {"created_at": created, **more}
                    )


def _completed(pictures: Sequence[Picture], receipt: Receipt, calls: Calls) -> list[dict[str, Any]]:
    """Return what is said of each image beside its request."""
    told: list[dict[str, Any]] = [
        {
            "data": each.data,
            "candidate": each.candidate,
            "score": each.score,
            "seed": receipt.recipe.seed,
            "usage": usage_of(None, calls).model_dump(),
        }
        for each in pictures
    ]
    told[-1]["usage"] = usage_of(receipt, calls).model_dump()
    return told


def _image_event(name: str, data: bytes, described: dict[str, str], more: dict[str, Any]) -> bytes:
    return event(name, {"type": name, "b64_json": _base64(data), **described, **more})


def usage_of(receipt: Receipt | None, calls: Calls) -> Usage:
    """Return the tokens of a request; None: of no request."""
    text, image, made = 0, 0, 0
    if receipt is not None:
        prefix = receipt.recipe.prefix
        text, image, made = calls.text_tokens, len(prefix.image_tokens) if prefix else 0, receipt.tokens_spent
    details = TokenDetails(text_tokens=text, image_tokens=image)
    read = text + image
    return Usage(input_tokens=read, input_tokens_details=details, output_tokens=made, total_tokens=read + made)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
