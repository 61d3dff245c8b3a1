"""The services ``t2i.v1.Prior``, ``Decoder`` and ``Reranker``: each stage by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from models.manifest import SHORT
from t2i.protos.v1 import decoder_pb2, generation_pb2, prior_pb2, reranker_pb2
from t2i.protos.v1.decoder_pb2_grpc import DecoderServicer
from t2i.protos.v1.prior_pb2_grpc import PriorServicer
from t2i.protos.v1.reranker_pb2_grpc import RerankerServicer
from t2i.serve.generation.image_codec import encode_image
from t2i.serve.messages import (
    DecodedImages,
    EncodedImages,
    RankedImages,
    ReplicaStarting,
    SampledImages,
    SampleHeader,
    SampleProgress,
)
from t2i.serve.models import ServedModels
from t2i.serve.servicers.rpc import Limits, answering
from t2i.serve.servicers.validation import (
    FORMATS,
    caption_request,
    check_count,
    check_format,
    checked_caption,
    token_grids,
)


class PriorService(PriorServicer):
    """Samples image tokens for a caption."""

    def __init__(self, models: ServedModels, limits: Limits) -> None:
        self._models = models
        self._limits = limits

    async def Sample(self, request: prior_pb2.SampleRequest, context: Any) -> AsyncIterator[prior_pb2.SampleResponse]:
        """Yield the ``SampleStart`` message, then progress and candidates as they are made.

        Before it comes progress while no replica answers.
        """
        async with answering(context, self._limits) as calls:
            served = self._models.find(request.model)
            calls.monitor.model = served.name
            wanted = caption_request(request, request.prefix, self._limits.max_images, calls)
            async for event in calls.sample(served.stages, wanted):
                if isinstance(event, ReplicaStarting):
                    starting = generation_pb2.Progress(stage=generation_pb2.STAGE_STARTING)
                    yield prior_pb2.SampleResponse(progress=starting)
                elif isinstance(event, SampleHeader):
                    (height, width), truncated = event.grid, event.truncated
                    model = event.setup.prior.weights[:SHORT]
                    start = prior_pb2.SampleStart(seed=wanted.seed, caption_truncated=truncated, model=model)
                    yield prior_pb2.SampleResponse(start=start)
                elif isinstance(event, SampledImages):
                    for each in event.finished:
                        grid = prior_pb2.TokenGrid(height=height, width=width, image_tokens=each.image_tokens.tolist())
                        yield prior_pb2.SampleResponse(candidate=prior_pb2.Candidate(index=each.candidate, grid=grid))
                else:
                    yield prior_pb2.SampleResponse(progress=sample_progress(event))


class DecoderService(DecoderServicer):
    """Decodes image tokens to images, and encodes images."""

    def __init__(self, models: ServedModels, limits: Limits) -> None:
        self._models = models
        self._limits = limits

    async def Decode(self, request: decoder_pb2.DecodeRequest, context: Any) -> decoder_pb2.DecodeResponse:
        """Return the images of the grids of image tokens, encoded in the format asked for."""
        async with answering(context, self._limits) as calls:
            grids = token_grids(request.grids, self._limits.max_images)
            image_format = check_format(request.format)
            decoded: DecodedImages = await calls.call(self._models.stages(request.model).decoder.decode, grids)
            images = [await asyncio.to_thread(encode_image, image, FORMATS[image_format]) for image in decoded.images]
            return decoder_pb2.DecodeResponse(images=images, format=image_format, model=decoded.model[:SHORT])
        raise AssertionError("unreachable: answering() ends the RPC")

    async def Encode(self, request: decoder_pb2.EncodeRequest, context: Any) -> decoder_pb2.EncodeResponse:
        """Return the image tokens of the centre square of each image."""
        async with answering(context, self._limits) as calls:
            check_count("images", len(request.images), self._limits.max_images)
            decoder = self._models.stages(request.model).decoder
            encoded: EncodedImages = await calls.call(decoder.encode, named(request.images))
            height, width = encoded.grids.shape[1:]
            grids = [
                prior_pb2.TokenGrid(height=height, width=width, image_tokens=grid.flatten().tolist())
                for grid in encoded.grids
            ]
            return decoder_pb2.EncodeResponse(grids=grids, model=encoded.model[:SHORT])
        raise AssertionError("unreachable: answering() ends the RPC")


class RerankerService(RerankerServicer):
    """Scores how well images match a caption."""

    def __init__(self, models: ServedModels, limits: Limits) -> None:
        self._models = models
        self._limits = limits

    async def Rank(self, request: reranker_pb2.RankRequest, context: Any) -> reranker_pb2.RankResponse:
        """Return the score of each image, and their order."""
        async with answering(context, self._limits) as calls:
            caption = checked_caption(request.caption)
            check_count("images", len(request.images), self._limits.max_images)
            reranker = self._models.stages(request.model).reranker
            ranked: RankedImages = await calls.call(reranker.rank, caption, named(request.images))
            return reranker_pb2.RankResponse(scores=ranked.scores, order=ranked.order, model=ranked.model[:SHORT])
        raise AssertionError("unreachable: answering() ends the RPC")


def sample_progress(progress: SampleProgress) -> generation_pb2.Progress:
    """Return the prior's progress as a message."""
    return generation_pb2.Progress(
        stage=generation_pb2.STAGE_QUEUE if progress.position else generation_pb2.STAGE_SAMPLE,
        tokens_done=progress.tokens_done,
        tokens_total=progress.tokens_total,
        queue_position=progress.position,
        seconds_left=progress.seconds_left,
    )


def named(images: Sequence[bytes]) -> dict[str, bytes]:
    """Return image files by the names under which errors speak of them."""
    return {f"images[{index}]": data for index, data in enumerate(images)}
