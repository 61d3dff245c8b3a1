"""Requests as messages, and messages as answers."""

from __future__ import annotations

import secrets

from t2i.client.answers import Answer, Event, GeneratedImage, GenerationProgress, Preview, Summary
from t2i.client.errors import InvalidRequestError
from t2i.protos.v1 import generation_pb2 as pb
from t2i.sampling import MAX_SEED, SamplingOptions

FORMATS = {"png": pb.IMAGE_FORMAT_PNG, "jpeg": pb.IMAGE_FORMAT_JPEG, "webp": pb.IMAGE_FORMAT_WEBP}


class GenerationOptions(SamplingOptions, total=False):
    """What a client may ask for besides the caption; the defaults are those of ``GenerateRequest`` in ``protos/v1``.

    Attributes:
        candidates: images to sample.
        keep: how many of them to return, the best by CLIP.
        seed: repeats the images of an earlier request; None lets the service choose one.
        image: an image file, whose top every image continues.
        image_rows: rows of its image tokens to keep.
        preview_rows: a stream also brings every candidate after every so many rows of its tokens.
        format: png, jpeg or webp.
        model: one of the models that the service has; by default its first.
        metadata: whether the files hold their recipe, for ``t2i redraw``; by default they do.
    """

    candidates: int
    keep: int
    seed: int | None
    image: bytes | None
    image_rows: int | None
    preview_rows: int
    format: str
    model: str
    metadata: bool


def request_of(caption: str, options: GenerationOptions) -> pb.GenerateRequest:
    """Return the message to send; it always has a seed, so that it can be sent again for the same images.

    Raises:
        InvalidRequestError: protobuf cannot hold a value; all others are for the service to check.
    """
    fields = {name: value for name, value in options.items() if value is not None}
    image_format = fields.pop("format", "png")
    if image_format not in FORMATS:
        raise InvalidRequestError(f"format is {image_format!r}: use {', '.join(FORMATS)}.", "format")
    request = pb.GenerateRequest(caption=caption, format=FORMATS[str(image_format)], seed=secrets.randbelow(MAX_SEED))
    for name, value in fields.items():
        try:
            setattr(request, name, value)
        except ValueError as error:
            raise InvalidRequestError(f"{name} is {value!r}: use a smaller number.", name) from error
    return request


def answer_of(response: pb.GenerateResponse) -> Answer:
    """Return the answer of a call without a stream."""
    return Answer([_image(image) for image in response.images], _summary(response.summary))


def event_of(response: pb.GenerateStreamResponse) -> Event:
    """Return one message of a stream."""
    match response.WhichOneof("event"):
        case "progress":
            return _progress(response.progress)
        case "preview":
            return _preview(response.preview)
        case "image":
            return _image(response.image)
        case _:
            return _summary(response.summary)


def _progress(progress: pb.Progress) -> GenerationProgress:
    return GenerationProgress(
        pb.Stage.Name(progress.stage).removeprefix("STAGE_").lower(),
        progress.tokens_done,
        progress.tokens_total,
        progress.candidates_ranked,
        progress.queue_position,
        progress.seconds_left,
    )


def _preview(preview: pb.Preview) -> Preview:
    score = preview.score if preview.HasField("score") else None
    return Preview(preview.data, _format(preview.format), preview.candidate, preview.rows, score)


def _image(image: pb.Image) -> GeneratedImage:
    return GeneratedImage(image.data, _format(image.format), image.candidate, image.score)


def _format(value: pb.ImageFormat.ValueType) -> str:
    return next(name for name, known in FORMATS.items() if known == value)


def _summary(summary: pb.Summary) -> Summary:
    models = {each.name: value for each, value in summary.models.ListFields()}
    return Summary(summary.seed, summary.tokens_spent, summary.caption_truncated, models, summary.receipt)
