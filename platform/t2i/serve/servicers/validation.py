"""Checks of what clients send, before any deployment is called."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from models.captions import CaptionError, check_caption
from t2i.engine.request import Request
from t2i.protos.v1 import generation_pb2 as pb
from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.prior_pb2 import SampleRequest, TokenGrid
from t2i.sampling import MAX_SEED, RequestError, SamplingParams
from t2i.serve.generation.calls import Calls
from t2i.serve.generation.events import Wanted
from t2i.serve.generation.receipt import FILE_FORMATS
from t2i.serve.messages import CaptionRequest

MAX_CHARACTERS = 4096
"""Characters that the caption of a request may have."""

MAX_GRID_SIDE = 64
"""Rows or columns of image tokens that one image may have."""

MAX_PREVIEWED = 64
"""Candidates of a request that asks for previews."""

FORMATS = {pb.ImageFormat.Value(f"IMAGE_FORMAT_{name.upper()}"): name for name in FILE_FORMATS}
"""The formats of image files by their number in ``ImageFormat``."""


def wanted_images(request: GenerateRequest, prefix: Sequence[int], max_candidates: int, calls: Calls) -> Wanted:
    """Check what a client asks for.

    Raises:
        RequestError: a field is out of range.
    """
    caption = caption_request(request, prefix, max_candidates, calls)
    rows = request.preview_rows
    if rows < 0:
        raise RequestError("preview_rows", f"preview_rows is {rows}: use 1 or more, or 0 for no previews.")
    if rows and caption.candidates > MAX_PREVIEWED:
        count = f"preview_rows is {rows} with {caption.candidates} candidates"
        raise RequestError("preview_rows", f"{count}: ask for at most {MAX_PREVIEWED} candidates, or for no previews.")
    keep = images_to_keep(request, caption.candidates)
    metadata = request.metadata if request.HasField("metadata") else True
    return Wanted(replace(caption, preview_rows=rows), keep, FORMATS[check_format(request.format)], metadata=metadata)


def check_format(value: pb.ImageFormat.ValueType) -> pb.ImageFormat.ValueType:
    """Return the format to encode with, PNG if it is unspecified.

    Raises:
        RequestError: there is no such format.
    """
    image_format = value or pb.IMAGE_FORMAT_PNG
    if image_format not in FORMATS:
        raise RequestError("format", f"format is {value}: use {', '.join(FORMATS.values())}.")
    return image_format


def caption_request(
    request: GenerateRequest | SampleRequest, prefix: Sequence[int], max_candidates: int, calls: Calls
) -> CaptionRequest:
    """Check what a client asks of the prior; fields that it left out get their defaults, the seed a random number.

    Raises:
        RequestError: caption, candidates, seed or a sampling setting is out of range.
    """
    candidates = request.candidates if request.HasField("candidates") else 1
    seed = request.seed if request.HasField("seed") else secrets.randbelow(MAX_SEED)
    caption = checked_caption(request.caption)
    check_count("candidates", candidates, max_candidates)
    given = {field.name: value for field, value in request.ListFields()}
    sampling = SamplingParams(
        **{field.name: given[field.name] for field in fields(SamplingParams) if field.name in given}
    )
    Request("", (), candidates, seed, sampling)  # raises if the engine would refuse the seed
    return CaptionRequest(calls.id, calls.client, caption, candidates, seed, sampling, tuple(prefix), calls.deadline)


def images_to_keep(request: GenerateRequest, candidates: int) -> int:
    """Return how many images to send back, 1 unless the client says.

    Raises:
        RequestError: ``keep`` is less than 1, or more than are sampled.
    """
    keep = request.keep if request.HasField("keep") else 1
    if not 1 <= keep <= candidates:
        raise RequestError("keep", f"keep is {keep} of {candidates} candidates: use 1 to {candidates}.")
    return keep


def token_grids(grids: Sequence[TokenGrid], max_images: int) -> list[np.ndarray]:
    """Return the image tokens int32 [h, w] of each grid.

    Raises:
        RequestError: there are none or too many, their shapes differ, or one has not height x width tokens.
    """
    check_count("grids", len(grids), max_images)
    height, width = grids[0].height, grids[0].width
    if not (1 <= height <= MAX_GRID_SIDE and 1 <= width <= MAX_GRID_SIDE):
        raise RequestError("grids", f"grids[0] is {height} x {width}: use 1 to {MAX_GRID_SIDE} rows and columns.")
    for index, grid in enumerate(grids):
        shape = f"grids[{index}] is {grid.height} x {grid.width} with {len(grid.image_tokens)} image tokens"
        if (grid.height, grid.width) != (height, width) or len(grid.image_tokens) != height * width:
            raise RequestError("grids", f"{shape}: send {height} x {width} = {height * width} for each image.")
    return [np.array(grid.image_tokens, np.int32).reshape(height, width) for grid in grids]


def checked_caption(caption: str) -> str:
    """Return the caption if it is valid.

    Raises:
        RequestError: it is empty, longer than 4 096 characters, or not valid Unicode.
    """
    if len(caption) > MAX_CHARACTERS:
        raise RequestError("caption", f"caption has {len(caption)} characters: use at most {MAX_CHARACTERS}.")
    try:
        check_caption(caption)
    except CaptionError as error:
        raise RequestError("caption", str(error)) from error
    return caption


def check_count(field: str, count: int, limit: int) -> None:
    """Check a number of images against the server's limit.

    Raises:
        RequestError: ``count`` is not in 1 to ``limit``.
    """
    if not 1 <= count <= limit:
        raise RequestError(field, f"{field} is {count}: use 1 to {limit}.")
