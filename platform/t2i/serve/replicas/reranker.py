"""A replica of the reranker: it ranks images by how well CLIP finds that they match a caption."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from models.checkpoint import load_model
from models.images import to_float
from models.manifest import verify, weights_hash
from models.reranker import CLIPConfig, CLIPReranker, encode_filled, rank
from models.run_layout import RunLayout
from t2i.serve.config import ServeConfig
from t2i.serve.messages import DecodedImages, RankedImages
from t2i.serve.monitoring.origin import for_request
from t2i.serve.monitoring.setup import set_up_monitoring
from t2i.serve.replicas.batches import Batches
from t2i.serve.replicas.uploads import Uploads
from t2i.serve.runs import fetched

CAPTIONS = 1024
"""Captions whose features are kept: the candidates of one caption are ranked by many calls."""


class RerankerReplica:
    """Holds CLIP; images of concurrent requests are encoded in one batch."""

    def __init__(self, config: ServeConfig) -> None:
        set_up_monitoring(config, "reranker")
        config = fetched(config)
        torch.set_num_threads(config.reranker.threads_used)
        directory = RunLayout(config.run).clip
        self._clip = load_model(CLIPReranker, CLIPConfig, directory, config.reranker.device, config.reranker.dtype)
        self._model = weights_hash(verify(directory))
        self._uploads = Uploads()
        self._batch = config.rank_batch
        self._caption_feature = lru_cache(CAPTIONS)(self._encode_caption)
        self._encode_one = Batches(self._encode_batch, self._batch, "reranker")

    @for_request("reranker")
    async def rank(self, caption: str, images: DecodedImages | Mapping[str, bytes]) -> RankedImages:
        """Rank what the decoder made, or image files each of any size, by their CLIP cosine with the caption.

        Raises:
            RequestError: a file cannot be used; the message names the field, which is its key.
        """
        if isinstance(images, DecodedImages):
            prepared = await asyncio.to_thread(lambda: [self._prepare(image) for image in images.images])
        else:
            prepared = await self._uploads.shrink(images, self._prepare)
        features = await asyncio.gather(*(self._encode_one(image) for image in prepared))
        ranking = rank(torch.stack(features), await self._encode_one.run(self._caption_feature, caption))
        return RankedImages(ranking.scores.tolist(), ranking.order.tolist(), self._model)

    def _prepare(self, image: np.ndarray) -> Tensor:
        """Return an image uint8 [H, W, 3] as CLIP's input [3, side, side]."""
        return self._clip.prepare(to_float(image[None]))[0]

    @torch.inference_mode()
    def _encode_batch(self, images: list[Tensor]) -> list[Tensor]:
        """Return the feature [F] of each of up to a batch of images; how many they are changes none of them."""
        return list(encode_filled(self._clip, torch.stack(images), self._batch))

    @torch.inference_mode()
    def _encode_caption(self, caption: str) -> Tensor:
        return self._clip.encode_captions([caption])[0]
