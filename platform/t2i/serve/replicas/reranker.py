"""A replica of the reranker: it ranks images by how well CLIP finds that they match a caption."""

from __future__ import annotations

import asyncio

import numpy as np
import torch

from models.checkpoint import load_model
from models.images import to_float
from models.manifest import model_hash
from models.reranker import CLIPConfig, CLIPReranker, rank_images
from models.run_layout import RunLayout
from t2i.serve.config import ServeConfig
from t2i.serve.replicas.messages import RankedImages


class RerankerReplica:
    """Holds CLIP."""

    def __init__(self, config: ServeConfig) -> None:
        torch.set_num_threads(config.reranker.threads)
        directory = RunLayout(config.run).clip
        self._clip = load_model(CLIPReranker, CLIPConfig, directory, config.reranker.device, config.reranker.dtype)
        self._model = model_hash(directory)
        self._batch = config.rank_batch

    async def rank(self, caption: str, images: list[np.ndarray]) -> RankedImages:
        """Rank images uint8 [H, W, 3], each of any size, by their CLIP cosine with the caption."""
        return await asyncio.to_thread(self._rank, caption, images)

    @torch.inference_mode()
    def _rank(self, caption: str, images: list[np.ndarray]) -> RankedImages:
        prepared = torch.cat([self._clip.prepare(to_float(image[None])) for image in images])
        ranking = rank_images(self._clip, prepared, self._clip.encode_captions([caption])[0], self._batch)
        return RankedImages(ranking.scores.tolist(), ranking.order.tolist(), self._model)
