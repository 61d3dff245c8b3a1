"""Captions in, ranked images out: the four models of a run directory together, as the jobs use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from models.checkpoint import load_model
from models.devices import device_of
from models.dtypes import companion_dtype
from models.dvae import DVAE, DVAEConfig
from models.dvae.dvae import PREVIEW_GREY
from models.images import to_float, to_uint8
from models.prior import Prior, PriorConfig
from models.reranker import CLIPConfig, CLIPReranker, Ranking, rank_images
from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.engine.engine import Engine
from t2i.engine.offline import OfflineRun
from t2i.engine.pruning import Pruner, PruningParams
from t2i.engine.request import Request, TokenProgress, encode_request
from t2i.sampling import SamplingParams


@dataclass(frozen=True)
class SampledCaption:
    """The image tokens sampled for one caption.

    Attributes:
        truncated: whether the caption has more tokens than the prior takes, so that its end was not read.
        candidates: int64 [n] ascending, the numbers of those that were finished: all, unless pruning stopped some.
        image_tokens: int32 [n, N], of each of them.
        tokens_saved: how many image tokens of the others were never made.
    """

    caption: str
    truncated: bool
    candidates: np.ndarray
    image_tokens: np.ndarray
    tokens_saved: int


@dataclass(frozen=True)
class GenerationResult(SampledCaption):
    """The candidates of one caption with their images, their CLIP scores and their order from best to worst.

    Attributes:
        images: uint8 [n, H, W, 3].
        scores: float32 [n], CLIP's cosine of each image with the caption.
        order: int64 [n], indices into the n rows of the other arrays, best first.
    """

    images: np.ndarray
    scores: np.ndarray
    order: np.ndarray


class TextToImage:
    """Tokenizer, prior, decoder and reranker of one run directory; ``slots`` candidates are sampled at once.

    A step makes up to ``window`` image tokens of each, if slots are not in use (see :class:`Engine`).

    Without a reranker it samples and decodes, but can neither rank nor prune.
    """

    def __init__(
        self,
        tokenizer: CaptionTokenizer,
        prior: Prior,
        dvae: DVAE,
        reranker: CLIPReranker | None,
        slots: int,
        window: int = 1,
    ) -> None:
        self.tokenizer = tokenizer
        self.engine = Engine(prior, slots, window=window)
        self.dvae = dvae
        self.reranker = reranker
        self._caption_feature = lru_cache(maxsize=256)(self._encode_caption)  # pruning asks for it group by group

    @classmethod
    def load(
        cls,
        run: str | Path,
        slots: int = 64,
        device: str = "cpu",
        rerank: bool = True,
        dtype: str = "float32",
        compiled: bool = False,
        window: int = 1,
    ) -> TextToImage:
        """Load the models of a run directory (see models.run_layout), without the reranker unless ``rerank``.

        With ``compiled`` the prior's decode step is compiled before this returns.

        Raises:
            CheckpointError: a model is missing, incomplete or damaged.
            UserError: there is no such ``dtype`` (see models.dtypes).
        """
        layout, other_dtype = RunLayout(run), companion_dtype(dtype)
        tokenizer = CaptionTokenizer.load(layout.tokenizer)
        prior = load_model(Prior, PriorConfig, layout.prior, device, dtype)
        dvae = load_model(DVAE, DVAEConfig, layout.dvae, device, other_dtype)
        reranker = load_model(CLIPReranker, CLIPConfig, layout.clip, device, other_dtype) if rerank else None
        model = cls(tokenizer, prior, dvae, reranker, slots, window)
        if compiled:
            model.engine.compile()
        return model

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns (h, w) of image tokens."""
        return self.engine.layout.grid

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.grid[0] * self.dvae.config.downsample

    def generate(
        self,
        captions: Sequence[str],
        *,
        candidates: int,
        seeds: int | Sequence[int],
        sampling: SamplingParams | None = None,
        prefix: Sequence[int] = (),
        pruning: PruningParams | None = None,
        on_progress: Callable[[TokenProgress], None] | None = None,
    ) -> list[GenerationResult]:
        """Sample, decode and rank ``candidates`` images for each caption; arguments and errors as :meth:`sample`."""
        sampled = self.sample(
            captions,
            candidates=candidates,
            seeds=seeds,
            sampling=sampling,
            prefix=prefix,
            pruning=pruning,
            on_progress=on_progress,
        )
        return [self._decode_and_rank(caption) for caption in sampled]

    def sample(
        self,
        captions: Sequence[str],
        *,
        candidates: int,
        seeds: int | Sequence[int],
        sampling: SamplingParams | None = None,
        prefix: Sequence[int] = (),
        pruning: PruningParams | None = None,
        on_progress: Callable[[TokenProgress], None] | None = None,
    ) -> list[SampledCaption]:
        """Sample the image tokens of ``candidates`` images for each caption; nothing is decoded or ranked.

        Args:
            captions: what the images should show.
            candidates: images of each caption.
            seeds: one seed for each caption, or a single one for all of them.
            sampling: how a token is sampled; the paper's way if None.
            prefix: image tokens in raster order with which every candidate begins.
            pruning: if and when candidates with low CLIP scores are stopped; only the others are returned.
            on_progress: called after every step, with the new image tokens over all captions.

        Raises:
            CaptionError: a caption is empty or not valid Unicode.
            RequestError: candidates, a seed, prefix or pruning is out of range.
        """
        seeds = [seeds] * len(captions) if isinstance(seeds, int) else seeds
        encoded = [
            encode_request(
                self.tokenizer,
                self.engine.layout.text_length,
                str(index),
                caption,
                candidates=candidates,
                seed=seed,
                sampling=sampling,
                prefix=prefix,
            )
            for index, (caption, seed) in enumerate(zip(captions, seeds, strict=True))
        ]
        requests = [request for request, _ in encoded]
        caption_of = {request.id: caption for request, caption in zip(requests, captions, strict=True)}
        pruner = self._pruner(pruning, requests, caption_of) if pruning and pruning.prunes else None
        sampled = OfflineRun(self.engine, requests, pruner).run(on_progress)
        return [
            SampledCaption(caption_of[request.id], truncated, **vars(sampled[request.id]))
            for request, truncated in encoded
        ]

    @torch.inference_mode()
    def encode_rows(self, image: np.ndarray, rows: int) -> list[int]:
        """Return the image tokens of the top ``rows`` rows of an image uint8 [H, W, 3] of :attr:`image_size`."""
        device = device_of(self.dvae)
        return self.dvae.encode(to_float(image[None]).to(device))[0, : rows * self.grid[1]].tolist()

    @torch.inference_mode()
    def decode(self, image_tokens: np.ndarray) -> np.ndarray:
        """Return the images uint8 [n, H, W, 3], rounded to nearest, of image tokens int [n, N]."""
        return to_uint8(self.dvae.decode(self._on_device(image_tokens), self.grid))

    @torch.inference_mode()
    def preview(self, image_tokens: np.ndarray) -> np.ndarray:
        """Return images uint8 [n, H, W, 3] of the tokens int [n, r * w] of their top r rows, mid-grey below these rows.

        Raises:
            ValueError: the tokens are not whole rows of the grid.
        """
        return to_uint8(self.dvae.preview(self._on_device(image_tokens), self.grid))

    def preview_to_score(self, image_tokens: np.ndarray) -> np.ndarray:
        """Return images uint8 [n, H, W, 3] for CLIP to score, made of the tokens int [n, r * w] of their top r rows.

        Like :meth:`preview` these are mid-grey below the r rows. But the rows above are decoded with the last row
        repeated below them: a decoder whose grid ends after r rows spoils the pixels near that edge. Of the previews
        that jobs/benchmarks/bench_pruning.py compares, this one orders candidates most like their finished images,
        from half of the rows on; with fewer rows, showing the repeated rows instead of grey is a little better.
        """
        (height, width), rows = self.grid, image_tokens.shape[1] // self.grid[1]
        repeated = np.tile(image_tokens[:, -width:], height - rows)
        images = self.decode(np.concatenate([image_tokens, repeated], axis=1))
        images[:, rows * self.dvae.config.downsample :] = round(PREVIEW_GREY * 255)
        return images

    @torch.inference_mode()
    def rank(self, images: np.ndarray, caption: str) -> Ranking:
        """Rank images uint8 [n, H, W, 3] by their CLIP cosine with one caption.

        Raises:
            RuntimeError: the reranker was not loaded.
        """
        if self.reranker is None:
            raise RuntimeError("TextToImage was loaded without its reranker.")
        return rank_images(self.reranker, self.reranker.prepare(to_float(images)), self._caption_feature(caption))

    def _encode_caption(self, caption: str) -> torch.Tensor:
        """Return CLIP's unit-norm feature [F] of a caption."""
        assert self.reranker is not None
        return self.reranker.encode_captions([caption])[0]

    def _pruner(self, pruning: PruningParams, requests: Sequence[Request], caption_of: Mapping[str, str]) -> Pruner:
        """Return a pruner that has CLIP score previews; ``caption_of`` maps request ids to captions."""
        for request in requests:
            pruning.check(self.grid, len(request.prefix))

        def judge(request_id: str, image_tokens: np.ndarray) -> np.ndarray:
            return self.rank(self.preview_to_score(image_tokens), caption_of[request_id]).scores.cpu().numpy()

        return Pruner(pruning, {request.id: request.candidates for request in requests}, self.grid[1], judge)

    def _on_device(self, image_tokens: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(image_tokens.astype(np.int64)).to(device_of(self.dvae))

    def _decode_and_rank(self, sampled: SampledCaption) -> GenerationResult:
        images = self.decode(sampled.image_tokens)
        ranking = self.rank(images, sampled.caption)
        scores, order = ranking.scores.cpu().numpy(), ranking.order.cpu().numpy()
        return GenerationResult(**vars(sampled), images=images, scores=scores, order=order)
