"""The service ``t2i.v1.Generation``: it calls the prior, the decoder and the reranker one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np

from t2i.engine import FinishedCandidate, TokenProgress, rows_to_keep
from t2i.protos.v1 import generation_pb2 as pb
from t2i.protos.v1.generation_pb2_grpc import GenerationServicer
from t2i.serve.replicas.messages import DecodedImages, EncodedImages, RankedImages, SampleHeader
from t2i.serve.servicers.image_codec import check_format, decode_image, encode_image
from t2i.serve.servicers.rpc import Rpc
from t2i.serve.servicers.validation import caption_request, images_to_keep


@dataclass(frozen=True)
class StageHandles:
    """Serve's handles of the three deployments, by which their methods are called."""

    prior: Any
    decoder: Any
    reranker: Any


@dataclass(frozen=True)
class Limits:
    """The most images that one request may have, and the longest time that it may take, in seconds."""

    max_images: int
    time_limit_s: float


class GenerationService(GenerationServicer):
    """Answers with the best of many candidates for a caption."""

    def __init__(self, stages: StageHandles, limits: Limits) -> None:
        self._stages = stages
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
        """Yield progress as it is made, then the best images, best first, then the summary."""
        rpc = Rpc(context, self._limits.time_limit_s)
        async with rpc.answering():
            prefix = await self._prefix(request, rpc)
            wanted = caption_request(request, prefix, self._limits.max_images, rpc.deadline)
            keep = images_to_keep(request, wanted.candidates)
            image_format = check_format(request.format)

            grids: dict[int, np.ndarray] = {}
            async for event in rpc.sample(self._stages.prior, wanted):
                if isinstance(event, SampleHeader):
                    header = event
                elif isinstance(event, FinishedCandidate):
                    grids[event.candidate] = event.image_tokens.reshape(header.grid)
                else:
                    progress = event
                    yield progress_message(pb.STAGE_SAMPLE, progress)

            yield progress_message(pb.STAGE_DECODE, progress)
            decoded: DecodedImages = await rpc.call(
                self._stages.decoder.decode, [grids[i] for i in range(wanted.candidates)]
            )
            yield progress_message(pb.STAGE_RANK, progress)
            ranked: RankedImages = await rpc.call(self._stages.reranker.rank, wanted.caption, list(decoded.images))

            for candidate in ranked.order[:keep]:
                data = await asyncio.to_thread(encode_image, decoded.images[candidate], image_format)
                score = ranked.scores[candidate]
                image = pb.Image(data=data, format=image_format, candidate=candidate, score=score)
                yield pb.GenerateStreamResponse(image=image)
            models = pb.ModelHashes(prior=header.model, decoder=decoded.model, reranker=ranked.model)
            summary = pb.Summary(
                seed=wanted.seed,
                tokens_spent=rpc.tokens_spent,
                caption_truncated=header.truncated,
                models=models,
            )
            yield pb.GenerateStreamResponse(summary=summary)

    async def _prefix(self, request: pb.GenerateRequest, rpc: Rpc) -> list[int]:
        """Return the image tokens of the top of the request's image, with which all candidates begin, if any."""
        if not request.HasField("image"):
            return []
        image = await asyncio.to_thread(decode_image, request.image, "image")
        encoded: EncodedImages = await rpc.call(self._stages.decoder.encode, [image])
        rows = request.image_rows if request.HasField("image_rows") else None
        return encoded.grids[0, : rows_to_keep(rows, encoded.grids.shape[1])].flatten().tolist()


def progress_message(stage: pb.Stage.ValueType, progress: TokenProgress) -> pb.GenerateStreamResponse:
    """Return the progress message of a stage; in the stages after sampling the image tokens stay at their total."""
    message = pb.Progress(stage=stage, tokens_done=progress.tokens_done, tokens_total=progress.tokens_total)
    return pb.GenerateStreamResponse(progress=message)
