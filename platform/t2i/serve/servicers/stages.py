"""The services ``t2i.v1.Prior``, ``Decoder`` and ``Reranker``: each stage by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from t2i.engine import FinishedCandidate
from t2i.protos.v1 import decoder_pb2, generation_pb2, prior_pb2, reranker_pb2
from t2i.protos.v1.decoder_pb2_grpc import DecoderServicer
from t2i.protos.v1.prior_pb2_grpc import PriorServicer
from t2i.protos.v1.reranker_pb2_grpc import RerankerServicer
from t2i.serve.replicas.messages import DecodedImages, EncodedImages, RankedImages, SampleHeader
from t2i.serve.servicers.generation import Limits
from t2i.serve.servicers.image_codec import check_format, decode_image, encode_image
from t2i.serve.servicers.rpc import Rpc
from t2i.serve.servicers.validation import caption_request, check_count, checked_caption, token_grids


class PriorService(PriorServicer):
    """Samples image tokens for a caption."""

    def __init__(self, prior: Any, limits: Limits) -> None:
        self._prior = prior
        self._limits = limits

    async def Sample(self, request: prior_pb2.SampleRequest, context: Any) -> AsyncIterator[prior_pb2.SampleResponse]:
        """Yield the ``SampleStart`` message, then progress and candidates as they are made."""
        rpc = Rpc(context, self._limits.time_limit_s)
        async with rpc.answering():
            wanted = caption_request(request, request.prefix, self._limits.max_images, rpc.deadline)
            async for event in rpc.sample(self._prior, wanted):
                if isinstance(event, SampleHeader):
                    (height, width), truncated = event.grid, event.truncated
                    start = prior_pb2.SampleStart(seed=wanted.seed, caption_truncated=truncated, model=event.model)
                    yield prior_pb2.SampleResponse(start=start)
                elif isinstance(event, FinishedCandidate):
                    grid = prior_pb2.TokenGrid(height=height, width=width, image_tokens=event.image_tokens.tolist())
                    candidate = prior_pb2.Candidate(index=event.candidate, grid=grid)
                    yield prior_pb2.SampleResponse(candidate=candidate)
                else:
                    progress = generation_pb2.Progress(
                        stage=generation_pb2.STAGE_SAMPLE,
                        tokens_done=event.tokens_done,
                        tokens_total=event.tokens_total,
                    )
                    yield prior_pb2.SampleResponse(progress=progress)


class DecoderService(DecoderServicer):
    """Decodes image tokens to images, and encodes images."""

    def __init__(self, decoder: Any, limits: Limits) -> None:
        self._decoder = decoder
        self._limits = limits

    async def Decode(self, request: decoder_pb2.DecodeRequest, context: Any) -> decoder_pb2.DecodeResponse:
        """Return the images of the grids of image tokens, encoded in the format asked for."""
        rpc = Rpc(context, self._limits.time_limit_s)
        async with rpc.answering():
            grids = token_grids(request.grids, self._limits.max_images)
            image_format = check_format(request.format)
            decoded: DecodedImages = await rpc.call(self._decoder.decode, grids)
            images = [await asyncio.to_thread(encode_image, image, image_format) for image in decoded.images]
            return decoder_pb2.DecodeResponse(images=images, format=image_format, model=decoded.model)
        raise AssertionError("unreachable: answering() ends the RPC")

    async def Encode(self, request: decoder_pb2.EncodeRequest, context: Any) -> decoder_pb2.EncodeResponse:
        """Return the image tokens of the centre square of each image."""
        rpc = Rpc(context, self._limits.time_limit_s)
        async with rpc.answering():
            check_count("images", len(request.images), self._limits.max_images)
            encoded: EncodedImages = await rpc.call(self._decoder.encode, await decode_images(request.images))
            height, width = encoded.grids.shape[1:]
            grids = [
                prior_pb2.TokenGrid(height=height, width=width, image_tokens=grid.flatten().tolist())
                for grid in encoded.grids
            ]
            return decoder_pb2.EncodeResponse(grids=grids, model=encoded.model)
        raise AssertionError("unreachable: answering() ends the RPC")


class RerankerService(RerankerServicer):
    """Scores how well images match a caption."""

    def __init__(self, reranker: Any, limits: Limits) -> None:
        self._reranker = reranker
        self._limits = limits

    async def Rank(self, request: reranker_pb2.RankRequest, context: Any) -> reranker_pb2.RankResponse:
        """Return the score of each image, and their order."""
        rpc = Rpc(context, self._limits.time_limit_s)
        async with rpc.answering():
            caption = checked_caption(request.caption)
            check_count("images", len(request.images), self._limits.max_images)
            ranked: RankedImages = await rpc.call(self._reranker.rank, caption, await decode_images(request.images))
            return reranker_pb2.RankResponse(scores=ranked.scores, order=ranked.order, model=ranked.model)
        raise AssertionError("unreachable: answering() ends the RPC")


async def decode_images(images: Sequence[bytes]) -> list[np.ndarray]:
    """Decode image files to uint8 [H, W, 3] each, on another thread, as that takes long for the event loop.

    Raises:
        RequestError: one of them is no image, or too large.
    """
    return [await asyncio.to_thread(decode_image, data, f"images[{index}]") for index, data in enumerate(images)]
