"""Captions in, ranked images out: the four models of a run together, as the evaluation job and the CLI use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from models.checkpoint import load_model
from models.devices import device_of
from models.dvae import DVAE, DVAEConfig
from models.dvae.dvae import PREVIEW_GREY
from models.images import to_float, to_uint8
from models.precision import companion_dtype
from models.prior import Prior, PriorConfig
from models.reranker import CLIPConfig, CLIPReranker, Ranking, rank
from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.engine.engine import Engine
from t2i.engine.offline import OfflineRun, SampledCandidates
from t2i.engine.pruning import Pruner, PruningParams
from t2i.engine.request import Request, TokenProgress
from t2i.sampling import SamplingParams

RANK_BATCH = 64
"""Images that CLIP encodes at once."""


@dataclass(frozen=True)
class GenerationResult:
    """All n candidates of one caption, or those that pruning left.

    ``candidates`` int64 [n] says which they are, ``image_tokens`` int32 [n, N], ``images`` uint8 [n, H, W, 3],
    ``scores`` float32 [n] (CLIP cosine), ``order`` int64 [n] of these rows best first. ``truncated`` says that the end
    of the caption did not fit. ``tokens_saved`` image tokens of candidates that were stopped were never made.
    """

    caption: str
    truncated: bool
    candidates: np.ndarray
    image_tokens: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    order: np.ndarray
    tokens_saved: int = 0


class TextToImage:
    """Tokenizer, prior, decoder and reranker of one run directory."""

    def __init__(
        self, tokenizer: CaptionTokenizer, prior: Prior, dvae: DVAE, reranker: CLIPReranker | None, slots: int
    ) -> None:
        self.tokenizer = tokenizer
        self.slots = slots
        self.engine = Engine(prior, slots)
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
        compile: bool = False,
    ) -> TextToImage:
        """Load the models of a run directory (see models.run_layout).

        With ``compile`` the prior's decoding step is compiled before this returns.

        Raises:
            CheckpointError: one is missing, incomplete or damaged.
            UserError: there is no such ``dtype`` (see models.precision).
        """
        layout, other = RunLayout(run), companion_dtype(dtype)
        tokenizer = CaptionTokenizer.load(layout.tokenizer)
        prior = load_model(Prior, PriorConfig, layout.prior, device, dtype)
        dvae = load_model(DVAE, DVAEConfig, layout.dvae, device, other)
        reranker = load_model(CLIPReranker, CLIPConfig, layout.clip, device, other) if rerank else None
        made = cls(tokenizer, prior, dvae, reranker, slots)
        if compile:
            made.engine.compile()
        return made

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        return self.engine.layout.grid

    @property
    def image_size(self) -> int:
        """Side of the images, in pixels."""
        return self.grid[0] * self.dvae.config.downsample

    def generate(
        self,
        captions: Sequence[str],
        *,
        candidates: int,
        seed: int,
        sampling: SamplingParams | None = None,
        prefix: Sequence[int] = (),
        pruning: PruningParams | None = None,
        on_progress: Callable[[TokenProgress], None] | None = None,
    ) -> list[GenerationResult]:
        """``candidates`` images for each caption, ranked by CLIP; each begins with the image tokens ``prefix``.

        With ``pruning`` only those are finished, and are here, whose beginnings CLIP finds best.

        Raises:
            CaptionError: a caption is empty, too long to read or not valid Unicode.
            RequestError: candidates, seed, prefix or pruning is out of range.
        """
        encoded = self.tokenizer.encode_batch(captions, self.engine.layout.text_length)
        requests = [
            Request(str(index), tuple(caption.ids), candidates, seed, sampling or SamplingParams(), tuple(prefix))
            for index, caption in enumerate(encoded)
        ]
        drawn = self.sample(requests, on_progress, pruning=pruning, captions=captions)
        return [
            self._generation(caption, encoded[index].truncated, drawn[str(index)])
            for index, caption in enumerate(captions)
        ]

    def sample(
        self,
        requests: Sequence[Request],
        on_progress: Callable[[TokenProgress], None] | None = None,
        *,
        pruning: PruningParams | None = None,
        captions: Sequence[str] = (),
    ) -> dict[str, SampledCandidates]:
        """Run the engine until every request is done: request id -> what came of it.

        ``captions``, one of each request, are what CLIP judges by; only ``pruning`` needs them.

        Raises:
            RequestError: a request does not fit the prior, or pruning the grid.
        """
        pruner = self._pruner(pruning, requests, captions) if pruning and pruning.prunes else None
        return OfflineRun(self.engine, self.slots, requests, pruner).run(on_progress)

    @torch.inference_mode()
    def encode_rows(self, image: np.ndarray, rows: int) -> list[int]:
        """The top ``rows`` rows of image tokens of uint8 [H, W, 3], of the dVAE's image size, to continue from."""
        device = device_of(self.dvae)
        return self.dvae.encode(to_float(image[None]).to(device))[0, : rows * self.grid[1]].tolist()

    @torch.inference_mode()
    def decode(self, image_tokens: np.ndarray) -> np.ndarray:
        """Image tokens int [n, N] -> images uint8 [n, H, W, 3], rounded to nearest."""
        return to_uint8(self.dvae.decode(self._on_device(image_tokens), self.grid))

    @torch.inference_mode()
    def preview(self, image_tokens: np.ndarray) -> np.ndarray:
        """Image tokens int [n, r * w] of the top r rows -> images uint8 [n, H, W, 3], mid-grey below those rows.

        Raises:
            ValueError: the tokens are not whole rows of the grid.
        """
        return to_uint8(self.dvae.preview(self._on_device(image_tokens), self.grid))

    def preview_to_judge(self, image_tokens: np.ndarray) -> np.ndarray:
        """Image tokens int [n, r * w] of the top r rows -> images uint8 [n, H, W, 3] to rank begun candidates by.

        Grey below those rows as a preview is, but decoded above repetitions of the last: a decoder that sees the grid
        end there spoils the rows near the cut. From half of the rows on, this ranks candidates most as their finished
        images do of what was tried (jobs/benchmarks/bench_pruning.py); before, showing the repetitions is a little
        better.
        """
        (height, width), shown = self.grid, image_tokens.shape[1] // self.grid[1]
        repeated = np.tile(image_tokens[:, -width:], height - shown)
        images = self.decode(np.concatenate([image_tokens, repeated], axis=1))
        images[:, shown * self.dvae.config.downsample :] = round(PREVIEW_GREY * 255)
        return images

    @torch.inference_mode()
    def rank(self, images: np.ndarray, caption: str) -> Ranking:
        """Images uint8 [n, H, W, 3] by their CLIP cosine with one caption."""
        if self.reranker is None:
            raise RuntimeError("TextToImage was loaded without its reranker.")
        features = torch.cat([self.reranker.encode_images(batch) for batch in to_float(images).split(RANK_BATCH)])
        return rank(features, self._caption_feature(caption))

    def _encode_caption(self, caption: str) -> torch.Tensor:
        assert self.reranker is not None
        return self.reranker.encode_captions([caption])[0]

    def _pruner(self, pruning: PruningParams, requests: Sequence[Request], captions: Sequence[str]) -> Pruner:
        for request in requests:
            pruning.check(self.grid, len(request.prefix))
        caption_of = {request.id: caption for request, caption in zip(requests, captions, strict=True)}

        def judge(request_id: str, image_tokens: np.ndarray) -> np.ndarray:
            return self.rank(self.preview_to_judge(image_tokens), caption_of[request_id]).scores.cpu().numpy()

        return Pruner(pruning, {request.id: request.candidates for request in requests}, self.grid[1], judge)

    def _on_device(self, image_tokens: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(image_tokens.astype(np.int64)).to(device_of(self.dvae))

    def _generation(self, caption: str, truncated: bool, drawn: SampledCandidates) -> GenerationResult:
        images = self.decode(drawn.image_tokens)
        ranking = self.rank(images, caption)
        scores, order = ranking.scores.cpu().numpy(), ranking.order.cpu().numpy()
        tokens = drawn.image_tokens
        return GenerationResult(caption, truncated, drawn.candidates, tokens, images, scores, order, drawn.tokens_saved)
