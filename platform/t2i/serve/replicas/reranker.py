"""One replica of the reranker: a caption and images in, scores out."""

from __future__ import annotations

import asyncio

import numpy as np
import torch
from torch import Tensor

from models.checkpoint import load_model
from models.images import to_float
from models.manifest import model_hash
from models.reranker import CLIPConfig, CLIPReranker, rank
from models.run_layout import RunLayout
from t2i.serve.config import ServeConfig
from t2i.serve.replicas.messages import RankedImages


class RerankerReplica:
    """Owns CLIP."""

    def __init__(self, config: ServeConfig) -> None:
        torch.set_num_threads(config.reranker.threads)
        directory = RunLayout(config.run).clip
        self._clip = load_model(CLIPReranker, CLIPConfig, directory, config.reranker.device, config.reranker.dtype)
        self._model = model_hash(directory)
        self._batch = config.rank_batch

    async def rank(self, caption: str, images: list[np.ndarray]) -> RankedImages:
        """Images uint8 [H, W, 3] of any sizes, ranked by their likeness to the caption."""
        return await asyncio.to_thread(self._rank, caption, images)

    @torch.inference_mode()
    def _rank(self, caption: str, images: list[np.ndarray]) -> RankedImages:
        prepared = torch.cat([self._clip.prepare(to_float(image[None])) for image in images])
        features = torch.cat([self._encode(batch) for batch in prepared.split(self._batch)])
        ranking = rank(features, self._clip.encode_captions([caption])[0])
        return RankedImages(ranking.scores.tolist(), ranking.order.tolist(), self._model)

    def _encode(self, prepared: Tensor) -> Tensor:
        """Batches are filled up, so that an image's score does not depend on its neighbours."""
        filling = prepared.new_zeros(self._batch - len(prepared), *prepared.shape[1:])
        return self._clip.encode_prepared(torch.cat([prepared, filling]))[: len(prepared)]
