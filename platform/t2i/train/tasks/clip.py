"""The reranker: fit a CLIP on images and captions, contrastively (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_gather_single

from models.devices import device_of
from models.images import to_float
from models.reranker import CLIPConfig, CLIPReranker
from models.settings import setting
from t2i.contact_sheet import SheetRow
from t2i.metrics.retrieval import recall_at, retrieval_ranks
from t2i.train.noise import Noise
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.optim.schedules import cosine_anneal, linear_warmup
from t2i.train.tasks.base import Batch, Columns, Task, row_batches
from t2i.train.tasks.caption_choice import choose_captions, flatten_captions
from t2i.train.tasks.images import centre_squares
from t2i.train.tasks.pictures import SHOWN, captioned, evenly

TOWER_BATCH = 16
"""Images or captions at once through a locked tower; small batches stay in a core's cache and are the fastest."""

SEARCHED = 512
"""Validation images that pictures show the best of."""


def _optimizer() -> OptimizerConfig:
    return OptimizerConfig(beta2=0.98, weight_decay=0.1, ema_decay=0.95)


@dataclass
class CLIPTaskConfig:
    """The defaults suit the small CLIP: 800 steps of 256 pairs take half a minute on two cores."""

    model: CLIPConfig = setting(CLIPConfig, "which CLIP")
    optimizer: OptimizerConfig = setting(_optimizer, "AdamW, clipping and EMA")
    lr: float = setting(3e-3, "learning rate after the warm-up; it falls to 0 along a cosine")
    lr_steps: int = setting(800, "steps until it is 0")
    warmup_steps: int = setting(50, "steps of the linear warm-up")
    mirror: bool = setting(False, "mirror half of the training images; of a locked CLIP, this doubles its preparation")
    caption_weights: list[float] = setting(
        lambda: [3.0, 1.0],
        "chance of an image's 1st, 2nd, ... caption, the last number holding for all further ones; empty: all alike",
    )


class CLIPTask(Task):
    """Columns: ``captions`` lists of str; ``pixels`` uint8 [n, S, S, 3] or, in training of a CLIP that is not locked,
    ``image``, encoded and packed.

    :meth:`prepare` adds ``text``, a row for each caption of all images one after the other, and for each image its
    ``first`` row and its ``count`` of them. Of a locked CLIP, ``text`` is its text tower's outputs, and ``images`` and
    ``mirrored`` its image tower's, both constants; otherwise ``text`` is token ids.
    """

    divisible = False

    def __init__(self, config: CLIPTaskConfig, image_size: int) -> None:
        """Encoded images become squares of ``image_size``, like those that the dVAE draws."""
        self.config: CLIPTaskConfig = config
        self._image_size = image_size

    @property
    def optimizer(self) -> OptimizerConfig:
        return self.config.optimizer

    def lr(self, step: int) -> float:
        c = self.config
        return linear_warmup(step, c.warmup_steps) * cosine_anneal(step, c.lr, 0.0, c.lr_steps)

    def build(self) -> nn.Module:
        return CLIPReranker.from_pretrained(self.config.model)

    def prepare(self, columns: Columns, model: nn.Module) -> Columns:
        assert isinstance(model, CLIPReranker)
        captions, added = flatten_captions(columns["captions"])
        if not model.frozen:
            return {**columns, **added, "text": model.tokenize(captions).numpy()}
        added["text"] = text_outputs(model, captions)
        added["images"] = image_outputs(model, columns["pixels"])
        if self.config.mirror:
            added["mirrored"] = image_outputs(model, columns["pixels"][:, :, ::-1])
        return {**columns, **added}

    def residual_blocks(self, model: nn.Module) -> list[nn.Module]:
        return [module for module in model.modules() if isinstance(module, ResidualAttentionBlock)]

    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        """Each image with one of its captions: at random when training, else the first."""
        mirrored = np.zeros(len(rows), dtype=bool)
        if noise is not None:
            mirrored = (noise.uniform(1) < 0.5) & self.config.mirror
        if "images" in columns:
            images = pick_outputs(columns, rows, mirrored)
        else:
            rows, pixels = centre_squares(columns, rows, self._image_size)
            images = to_float(np.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels))
        chosen = columns["first"][rows]
        if noise is not None:
            chosen = chosen + choose_captions(columns["count"][rows], self.config.caption_weights, noise.uniform(0))
        return {"images": images, "text": torch.from_numpy(columns["text"][chosen])}

    def loss(self, model: nn.Module, batch: Batch, step: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(model, CLIPReranker)
        model.limit_logit_scale()
        images, text = (all_gather_features(features) for features in model(batch["images"], batch["text"]))
        logits = model.logit_scale * images @ text.T
        own = torch.arange(len(logits), device=logits.device)
        accuracy = (logits.argmax(dim=1) == own).float().mean()
        return contrastive_loss(logits), {"accuracy": accuracy, "logit_scale": model.logit_scale}

    @torch.no_grad()
    def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:
        """Of all validation images and first captions: how often a caption finds its image, and an image its caption,
        among the 1 or 10 best, and the median rank (1 is best) of the right one."""
        assert isinstance(model, CLIPReranker)
        images, text = self._embed(model, columns, len(columns["first"]), batch_size)
        return retrieval("image_to_text", images, text) | retrieval("text_to_image", text, images)

    def score(self, metrics: Mapping[str, float]) -> float:
        return -metrics["text_to_image_r1"]

    @torch.no_grad()
    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:
        """For each of a few captions the images most like it, of :data:`SEARCHED`, with cosines; its own is marked."""
        assert isinstance(model, CLIPReranker)
        images, text = self._embed(model, columns, min(SEARCHED, len(columns["first"])), TOWER_BATCH)
        rows = [self._most_like(columns, row, images @ text[row]) for row in evenly(len(images))]
        return {"retrieved": captioned(rows)}

    def _most_like(self, columns: Columns, row: int, cosines: np.ndarray) -> SheetRow:
        best = cosines.argsort()[::-1][:SHOWN]
        labels = [f"{cosines[image]:.3f}" + (", its own" if image == row else "") for image in best]
        return SheetRow(columns["captions"][row][0], columns["pixels"][best], labels)

    def _embed(self, model: CLIPReranker, columns: Columns, n: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """The first ``n`` images and their first captions -> unit-norm float32 [n, E] x 2."""
        device = device_of(model)
        batches = [self.batch(columns, rows) for rows in row_batches(n, batch_size)]
        embedded = [model(batch["images"].to(device), batch["text"].to(device)) for batch in batches]
        images, text = (torch.cat(features).float().cpu().numpy() for features in zip(*embedded, strict=True))
        return images, text


def contrastive_loss(logits: Tensor) -> Tensor:
    """InfoNCE in both directions; the pairs are on the diagonal of logits [B, B]."""
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def all_gather_features(features: Tensor) -> Tensor:
    """[B, E] of every worker -> [workers * B, E], the same on all.

    Its backward sums the gradients that all workers' equal losses send; the mean that data-parallel training takes over
    workers then gives the one gradient of the whole batch.
    """
    return all_gather_single(features, 0, dist.group.WORLD) if dist.group.WORLD else features


def image_outputs(model: CLIPReranker, pixels: np.ndarray) -> np.ndarray:
    """uint8 [n, S, S, 3] -> the locked image tower's outputs float32 [n, F]."""
    parts = (to_float(pixels[rows]) for rows in row_batches(len(pixels), TOWER_BATCH))
    return torch.cat([model.image_tower(part).float().cpu() for part in parts]).numpy()


def text_outputs(model: CLIPReranker, captions: list[str]) -> np.ndarray:
    """Captions -> the locked text tower's outputs float32 [M, F]; each distinct one is computed once.

    They go by length, so that there is little padding.
    """
    distinct = sorted(set(captions), key=len)
    parts = [
        model.text_tower([distinct[i] for i in rows]).float().cpu() for rows in row_batches(len(distinct), TOWER_BATCH)
    ]
    place = {caption: index for index, caption in enumerate(distinct)}
    return torch.cat(parts).numpy()[[place[caption] for caption in captions]]


def pick_outputs(columns: Columns, rows: np.ndarray, mirrored: np.ndarray) -> Tensor:
    """What a locked tower gave for the images of ``rows``, or for their mirror images if marked in ``mirrored`` [B]."""
    outputs = columns["images"][rows]
    if mirrored.any():
        outputs[mirrored] = columns["mirrored"][rows[mirrored]]
    return torch.from_numpy(outputs)


def retrieval(name: str, queries: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Recall at 1 and at 10, and the median rank, under names that begin with ``name``: unit-norm [n, E] x 2."""
    ranks = retrieval_ranks(queries, targets)
    recall = {f"{name}_r{k}": recall_at(ranks, k) for k in (1, 10)}
    return {**recall, f"{name}_median_rank": float(np.median(ranks))}
