"""Training of the reranker: a CLIP fitted to images and their captions contrastively (Radford et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_gather_single

from models.devices import device_of
from models.images import to_float
from models.reranker import CLIPConfig, CLIPReranker, clip_training_flops
from models.settings import setting
from t2i.contact_sheet import SheetRow
from t2i.metrics.retrieval import recall_at, retrieval_ranks
from t2i.train.noise import Noise
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.optim.schedules import cosine_anneal, linear_warmup
from t2i.train.tasks.base import Batch, Columns, Headline, Task, Work, row_batches
from t2i.train.tasks.caption_choice import choose_captions, flatten_captions
from t2i.train.tasks.images import centre_squares
from t2i.train.tasks.pictures import MAX_SHOWN, captioned_sheet, evenly_spaced

TOWER_BATCH = 16
"""Images or captions in one forward of a frozen tower; small batches stay in a core's cache and are the fastest."""

SEARCHED_IMAGES = 512
"""How many validation images are searched for the pictures."""

CAPTION, MIRROR = 0, 1
"""Streams of noise: which caption, and whether the image is mirrored."""


def _optimizer() -> OptimizerConfig:
    return OptimizerConfig(beta2=0.98, weight_decay=0.1, ema_decay=0.95)


@dataclass
class CLIPTaskConfig:
    """The defaults suit the small CLIP: 800 steps of 256 pairs take half a minute on two cores."""

    model: CLIPConfig = setting(CLIPConfig, "which CLIP")
    optimizer: OptimizerConfig = setting(_optimizer, "AdamW, clipping and EMA")
    lr: float = setting(3e-3, "learning rate after the warm-up; it falls to 0 along a cosine", above=0)
    lr_steps: int = setting(800, "steps until the learning rate is 0", at_least=1)
    warmup_steps: int = setting(50, "steps of the linear warm-up", at_least=0)
    mirror: bool = setting(
        False, "mirror half of the training images; preparing a CLIP with frozen towers then takes twice as long"
    )
    caption_weights: list[float] = setting(
        lambda: [3.0, 1.0],
        "chance of an image's 1st, 2nd, ... caption, the last number holding for all further ones; empty: all alike",
        at_least=0,
    )


class CLIPTask(Task):
    """Trains a CLIP on n images with C captions in all.

    Columns: ``captions``, a list of str for each image; ``pixels`` uint8 [n, H, W, 3], squares, or in training of a
    CLIP that is not frozen, ``image``, encoded and packed.

    :meth:`prepare` adds ``text`` [C, ...], the captions of all images one after the other, and for each image its
    ``first`` row there and its ``count`` of them. Without frozen towers, ``text`` is token ids. Frozen towers never
    change, so each image and caption goes through them once, before training: then ``text`` is the text tower's outputs
    float32 [C, F], ``images`` the image tower's [n, F], and ``mirrored`` those of the mirrored images.
    """

    allows_microbatches = False
    headline = Headline("text_to_image_r1", higher_is_better=True)
    # Not the headline: the thresholds of monitor/advice.py were tried on recorded curves of this one.
    overfitting_metric = Headline("image_to_text_r1", higher_is_better=True)
    training_metrics: ClassVar = {"accuracy": "CLIP: share of captions nearest to their own image in the batch"}
    validation_metrics: ClassVar = {
        "image_to_text_r1": "CLIP: share of images whose own caption is the nearest",
        "text_to_image_r1": "CLIP: share of captions whose own image is the nearest",
    }

    def __init__(self, config: CLIPTaskConfig, image_size: int) -> None:
        """Make the task; images are resized to ``image_size`` pixels a side, the size that the dVAE draws."""
        self.config: CLIPTaskConfig = config
        self._image_size = image_size

    @property
    def optimizer(self) -> OptimizerConfig:
        """The configured AdamW, clipping norm and EMA."""
        return self.config.optimizer

    def lr(self, step: int) -> float:
        """Return the learning rate: a linear warm-up, then a cosine down to 0."""
        c = self.config
        return linear_warmup(step, c.warmup_steps) * cosine_anneal(step, c.lr, 0.0, c.lr_steps)

    def work(self, batch_size: int, recomputed: bool = False) -> Work:  # noqa: ARG002  recomputed FLOPs are not counted
        """Return the pairs of an update, and its FLOPs without the towers that are frozen."""
        return Work(batch_size, "pairs", clip_training_flops(self.config.model, batch_size))

    def build(self) -> nn.Module:
        """Return the CLIP with its pretrained towers, if it has any."""
        return CLIPReranker.from_pretrained(self.config.model)

    def prepare(self, columns: Columns, model: nn.Module) -> Columns:
        """Tokenise all captions or, of a frozen CLIP, run captions and images through the towers."""
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
        """Return the attention blocks of both towers."""
        return [module for module in model.modules() if isinstance(module, ResidualAttentionBlock)]

    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        """Return images, or a frozen tower's outputs for them, each with one of its captions.

        In training the caption is drawn, and half of the images are mirrored if configured; else it is the first.
        """
        mirrored = np.zeros(len(rows), dtype=bool)
        if noise is not None:
            mirrored = (noise.uniform(MIRROR) < 0.5) & self.config.mirror
        if "images" in columns:
            images = pick_outputs(columns, rows, mirrored)
        else:
            rows, pixels = centre_squares(columns, rows, self._image_size)
            images = to_float(np.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels))
        chosen = columns["first"][rows]
        if noise is not None:
            weights = self.config.caption_weights
            chosen = chosen + choose_captions(columns["count"][rows], weights, noise.uniform(CAPTION))
        return {"images": images, "text": torch.from_numpy(columns["text"][chosen])}

    def loss(
        self,
        model: nn.Module,
        batch: Batch,
        step: int,  # noqa: ARG002  this loss has no schedule
        noise: Noise,  # noqa: ARG002  nor randomness
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the contrastive loss over the pairs of all workers, the same on each of them."""
        assert isinstance(model, CLIPReranker)
        model.limit_logit_scale()
        images, text = (all_gather_features(features) for features in model(batch["images"], batch["text"]))
        logits = model.logit_scale * images @ text.T
        own = torch.arange(len(logits), device=logits.device)
        accuracy = (logits.argmax(dim=1) == own).float().mean()
        return contrastive_loss(logits), {"accuracy": accuracy, "logit_scale": model.logit_scale}

    @torch.no_grad()
    def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:
        """Return how well images and their first captions find each other among all validation images.

        Both ways: the share of queries whose target is among the 1 or 10 nearest, and its median rank (1 is best).
        """
        assert isinstance(model, CLIPReranker)
        images, text = self._embed(model, columns, len(columns["first"]), batch_size)
        return retrieval("image_to_text", images, text) | retrieval("text_to_image", text, images)

    @torch.no_grad()
    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:
        """Return a sheet that shows, for each of a few captions, the nearest of :data:`SEARCHED_IMAGES` images.

        Under each image stands its cosine with the caption; the caption's own image is marked.
        """
        assert isinstance(model, CLIPReranker)
        images, text = self._embed(model, columns, min(SEARCHED_IMAGES, len(columns["first"])), TOWER_BATCH)
        rows = [self._sheet_row(columns, row, images @ text[row]) for row in evenly_spaced(len(images))]
        return {"retrieved": captioned_sheet(rows)}

    def _sheet_row(self, columns: Columns, row: int, cosines: np.ndarray) -> SheetRow:
        """Return a row of the sheet: the caption of image ``row``, and the images with the highest ``cosines`` [n]."""
        best = cosines.argsort()[::-1][:MAX_SHOWN]
        labels = [f"{cosines[image]:.3f}" + (", its own" if image == row else "") for image in best]
        return SheetRow(columns["captions"][row][0], columns["pixels"][best], labels)

    def _embed(self, model: CLIPReranker, columns: Columns, n: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Embed the first ``n`` images and their first captions: unit-norm float32 [n, F] each."""
        device = device_of(model)
        batches = [self.batch(columns, rows) for rows in row_batches(n, batch_size)]
        embedded = [model(batch["images"].to(device), batch["text"].to(device)) for batch in batches]
        images, text = (torch.cat(features).float().cpu().numpy() for features in zip(*embedded, strict=True))
        return images, text


def contrastive_loss(logits: Tensor) -> Tensor:
    """Return InfoNCE in both directions, [], of logits [B, B] = scaled cosines of images and captions.

    The true pairs are on the diagonal.
    """
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def all_gather_features(features: Tensor) -> Tensor:
    """Concatenate the features [B, F] of all W workers: [W * B, F], the same on each.

    So every worker computes the same loss of the whole batch. The backward sums, for each worker's features, the
    gradients of these W equal losses; data-parallel training then takes the mean over workers, which divides by W again
    and leaves the gradient of one loss of the whole batch.
    """
    return all_gather_single(features, 0, dist.group.WORLD) if dist.group.WORLD else features


def image_outputs(model: CLIPReranker, pixels: np.ndarray) -> np.ndarray:
    """Return the frozen image tower's outputs for images uint8 [n, H, W, 3]: float32 [n, F]."""
    batches = (to_float(pixels[rows]) for rows in row_batches(len(pixels), TOWER_BATCH))
    return torch.cat([model.image_tower(batch).float().cpu() for batch in batches]).numpy()


def text_outputs(model: CLIPReranker, captions: list[str]) -> np.ndarray:
    """Return the frozen text tower's outputs for C captions: float32 [C, F].

    Each distinct caption is computed once; captions of similar length share a batch, so that there is little padding.
    """
    distinct = sorted(set(captions), key=len)
    outputs = [
        model.text_tower([distinct[i] for i in rows]).float().cpu() for rows in row_batches(len(distinct), TOWER_BATCH)
    ]
    place = {caption: index for index, caption in enumerate(distinct)}
    return torch.cat(outputs).numpy()[[place[caption] for caption in captions]]


def pick_outputs(columns: Columns, rows: np.ndarray, mirrored: np.ndarray) -> Tensor:
    """Return the frozen tower's outputs for the images in ``rows`` int64 [B]: float32 [B, F].

    Where ``mirrored`` bool [B] is true, those for the mirrored image.
    """
    outputs = columns["images"][rows]
    if mirrored.any():
        outputs[mirrored] = columns["mirrored"][rows[mirrored]]
    return torch.from_numpy(outputs)


def retrieval(name: str, queries: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return recall at 1 and at 10 and the median rank of query i's target i among all: unit-norm [n, F] each.

    The metrics' names begin with ``name``.
    """
    ranks = retrieval_ranks(queries, targets)
    recall = {f"{name}_r{k}": recall_at(ranks, k) for k in (1, 10)}
    return {**recall, f"{name}_median_rank": float(np.median(ranks))}
