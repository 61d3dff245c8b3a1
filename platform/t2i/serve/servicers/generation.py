"""The service ``t2i.v1.Generation``: its messages to and from :mod:`t2i.serve.generation`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from models.manifest import SHORT
from t2i.engine.request import rows_to_keep
from t2i.protos.v1 import generation_pb2 as pb
from t2i.protos.v1.generation_pb2_grpc import GenerationServicer
from t2i.protos.v1.receipt_pb2 import Receipt as ReceiptMessage
from t2i.serve.generation.calls import Calls
from t2i.serve.generation.events import Event, Picture, Preview, Progress, Stage
from t2i.serve.generation.generate import generate
from t2i.serve.generation.receipt import Receipt, to_message
from t2i.serve.generation.stages import StageHandles
from t2i.serve.messages import EncodedImages
from t2i.serve.models import ServedModels
from t2i.serve.servicers.rpc import Limits, answering
from t2i.serve.servicers.validation import check_format, wanted_images

STAGES = {
    Stage.STARTING: pb.STAGE_STARTING,
    Stage.QUEUE: pb.STAGE_QUEUE,
    Stage.SAMPLE: pb.STAGE_SAMPLE,
    Stage.DECODE: pb.STAGE_DECODE,
    Stage.RANK: pb.STAGE_RANK,
}


class GenerationService(GenerationServicer):
    """Answers with the best of many candidates for a caption."""

    def __init__(self, models: ServedModels, limits: Limits) -> None:
        self._models = models
        self._limits = limits

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        """Return the best images in one answer: what :meth:`GenerateStream` yields, without the progress."""
        response = pb.GenerateResponse()
        async with aclosing(self.GenerateStream(request, context)) as events:
            async for event in events:
                if event.HasField("image"):
                    response.images.append(event.image)
                elif event.HasField("summary"):
                    response.summary.CopyFrom(event.summary)
        return response

    async def GenerateStream(
        self, request: pb.GenerateRequest, context: Any
    ) -> AsyncGenerator[pb.GenerateStreamResponse]:
        """Yield progress and previews as they are made, then the best images, best first, then the summary."""
        async with answering(context, self._limits) as calls:
            model = self._models.find(request.model)
            calls.monitor.model = model.name
            prefix = await prefix_of(request, model.stages, calls)
            wanted = wanted_images(request, prefix, self._limits.max_images, calls)
            wanted = replace(wanted, model=model.name)
            async with aclosing(generate(model.stages, wanted, calls)) as events:
                async for event in events:
                    yield message_of(event, check_format(request.format))


async def prefix_of(request: pb.GenerateRequest, stages: StageHandles, calls: Calls) -> list[int]:
    """Return the image tokens of the top of the request's image, with which all candidates begin, if any."""
    if not request.HasField("image"):
        return []
    encoded: EncodedImages = await calls.call(stages.decoder.encode, {"image": request.image})
    rows = request.image_rows if request.HasField("image_rows") else None
    tokens: list[int] = encoded.grids[0, : rows_to_keep(rows, encoded.grids.shape[1])].flatten().tolist()
    return tokens


def message_of(event: Event, image_format: pb.ImageFormat.ValueType) -> pb.GenerateStreamResponse:
    """Return an event as the message that tells it."""
    match event:
        case Progress():
            return pb.GenerateStreamResponse(progress=progress_message(event))
        case Preview():
            preview = pb.Preview(candidate=event.candidate, rows=event.rows, data=event.data, format=image_format)
            if event.score is not None:
                preview.score = event.score
            return pb.GenerateStreamResponse(preview=preview)
        case Picture():
            image = pb.Image(data=event.data, format=image_format, candidate=event.candidate, score=event.score)
            return pb.GenerateStreamResponse(image=image)
        case Receipt():
            return pb.GenerateStreamResponse(summary=summary_message(event))


def progress_message(progress: Progress) -> pb.Progress:
    """Return progress as a message."""
    return pb.Progress(
        stage=STAGES[progress.stage],
        tokens_done=progress.tokens_done,
        tokens_total=progress.tokens_total,
        candidates_ranked=progress.ranked,
        queue_position=progress.position,
        seconds_left=progress.seconds_left,
    )


def summary_message(receipt: Receipt) -> pb.Summary:
    """Return a receipt as a message."""
    return pb.Summary(
        seed=receipt.recipe.seed,
        tokens_spent=receipt.tokens_spent,
        caption_truncated=receipt.recipe.truncated,
        models=pb.ModelHashes(**{stage: weights[:SHORT] for stage, weights in receipt.weights.items()}),
        receipt=to_message(receipt, ReceiptMessage),
    )
