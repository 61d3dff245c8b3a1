"""Stage 2: training of the prior on captions and image tokens (paper section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoint import load_model
from models.devices import device_of
from models.dvae import DVAE, DVAEConfig
from models.images import to_uint8
from models.prior import Prior, PriorConfig, prior_loss, stream_flops, text_tensor, token_nats
from models.prior.loss import IGNORED, text_targets
from models.settings import setting
from models.tokenizer import CaptionTokenizer
from t2i.contact_sheet import SheetRow
from t2i.engine import Engine, Request
from t2i.logs import get_logger
from t2i.storage import fetch_directory
from t2i.train.noise import Noise
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.optim.schedules import cosine_anneal, linear_warmup
from t2i.train.tasks.base import Batch, Columns, Headline, Task, Work, row_batches
from t2i.train.tasks.caption_choice import choose_captions, flatten_captions
from t2i.train.tasks.pictures import MAX_SHOWN, captioned_sheet, evenly_spaced

SAMPLES_PER_CAPTION = 4

CAPTION, MERGES, GUIDANCE = 0, 1, 2
"""Streams of noise: which caption, which BPE merges are left out, and which captions (for guidance)."""


def _optimizer() -> OptimizerConfig:
    return OptimizerConfig(beta2=0.96, weight_decay=4.5e-2, clip_norm=4.0, ema_decay=0.99)


@dataclass
class PriorTaskConfig:
    """Sizes, optimizer, learning rate and use of captions; the defaults are the paper's.

    The paper halves the learning rate five times, at plateaus. Ours falls to the same 1/32 along a cosine: a pure
    function of the step, so that a resumed run needs no history of losses.
    """

    model: PriorConfig = setting(PriorConfig, "sizes of the prior")
    optimizer: OptimizerConfig = setting(_optimizer, "AdamW, clipping and EMA")
    lr: float = setting(4.5e-4, "learning rate after the warm-up", above=0)
    lr_end: float = setting(4.5e-4 / 32, "last learning rate", at_least=0)
    lr_steps: int = setting(430_000, "steps until the learning rate is lr_end", at_least=1)
    warmup_steps: int = setting(5_000, "steps of the linear warm-up", at_least=0)
    bpe_dropout: float = setting(0.1, "chance of every BPE merge to be left out in training", at_least=0, below=1)
    caption_dropout: float = setting(
        0.0, "chance of a caption to be left out in training, for guidance; the paper: 0", at_least=0, below=1
    )
    pads_are_targets: bool = setting(False, "learn every pad of a caption, not only the first, which ends it")
    caption_weights: list[float] = setting(
        list,
        "chance of an image's 1st, 2nd, ... caption, the last number holding for all further ones; empty: all alike",
        at_least=0,
    )

    def __post_init__(self) -> None:
        if self.caption_weights and self.caption_weights[0] == 0:
            raise ValueError(
                "task.caption_weights begins with 0, but some images have one caption only: use more than 0."
            )


class PriorTask(Task):
    """Trains a prior on n images with C captions in all.

    Columns: ``image_tokens`` int32 [n, N], and ``captions``, a list of str for each image.

    :meth:`prepare` turns ``captions`` into str [C], those of all images one after the other, and adds their padded
    tokens ``text`` int64 [C, T], and for each image its ``first`` row there and its ``count`` of them.
    """

    headline = Headline("nats_per_image_token", higher_is_better=False)
    training_metrics: ClassVar = {
        "nats_per_text_token": "prior: nats per text token",
        "nats_per_image_token": "prior: nats per image token",
    }
    validation_metrics: ClassVar = training_metrics

    def __init__(self, config: PriorTaskConfig, tokenizer: str, dvae: str) -> None:
        """Make the task from model directories, local or on S3; the dVAE only draws the pictures."""
        self.config: PriorTaskConfig = config
        self._tokenizer_dir = tokenizer
        self._dvae_dir = dvae

    @property
    def optimizer(self) -> OptimizerConfig:
        """The configured AdamW, clipping norm and EMA."""
        return self.config.optimizer

    def lr(self, step: int) -> float:
        """Return the learning rate: a linear warm-up, then a cosine from ``lr`` to ``lr_end``."""
        c = self.config
        return linear_warmup(step, c.warmup_steps) * cosine_anneal(step, c.lr, c.lr_end, c.lr_steps)

    def work(self, batch_size: int, recomputed: bool = False) -> Work:
        """Return the stream tokens of an update, and the FLOPs of forward and backward."""
        flops = stream_flops(self.config.model).training(recomputed)
        return Work(batch_size * self.config.model.layout.length, "tokens", batch_size * flops)

    def build(self) -> nn.Module:
        """Return the prior with random weights."""
        return Prior(self.config.model)

    def prepare(self, columns: Columns, model: nn.Module) -> Columns:  # noqa: ARG002  tokens need no model
        """Tokenise every caption once; those longer than T tokens are cut, with a warning."""
        self._tokenizer = CaptionTokenizer.load(fetch_directory(self._tokenizer_dir))
        layout = self.config.model.layout
        captions, places = flatten_captions(columns["captions"])
        encoded = self._tokenizer.encode_batch(captions, layout.text_length)
        truncated = sum(caption.truncated for caption in encoded)
        if truncated:
            limit = layout.text_length
            get_logger("train").warning("%d of %d captions cut to %d tokens", truncated, len(captions), limit)
        text = text_tensor([caption.ids for caption in encoded], layout).numpy()
        return {**columns, **places, "captions": np.array(captions, object), "text": text}

    def residual_blocks(self, model: nn.Module) -> list[nn.Module]:
        """Return the prior's blocks."""
        assert isinstance(model, Prior)
        return list(model.blocks)

    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        """Return ``text`` int64 [B, T], one caption of each image, and ``image_tokens`` int64 [B, N].

        The caption is the first one; in training it is drawn, and some of its merges or all of it may be left out.
        """
        image_tokens = torch.from_numpy(columns["image_tokens"][rows].astype(np.int64))
        chosen = columns["first"][rows]
        if noise is None:
            return {"text": torch.from_numpy(columns["text"][chosen]), "image_tokens": image_tokens}
        chosen = chosen + choose_captions(columns["count"][rows], self.config.caption_weights, noise.uniform(CAPTION))
        return {"text": self._training_text(columns, chosen, noise), "image_tokens": image_tokens}

    def _training_text(self, columns: Columns, chosen: np.ndarray, noise: Noise) -> Tensor:
        """Return tokens int64 [B, T] of the ``chosen`` captions, int64 [B], with BPE and caption dropout."""
        layout, c = self.config.model.layout, self.config
        text = torch.from_numpy(columns["text"][chosen])
        if c.bpe_dropout:
            captions = zip(columns["captions"][chosen], noise.numpy(MERGES), strict=True)
            ids = [self._encode_with_dropout(caption, random) for caption, random in captions]
            text = text_tensor(ids, layout)
        dropped = torch.from_numpy(noise.uniform(GUIDANCE) < c.caption_dropout)
        return torch.where(dropped[:, None], text_tensor([[]], layout), text)

    def _encode_with_dropout(self, caption: str, random: np.random.Generator) -> list[int]:
        length, dropout = self.config.model.text_length, self.config.bpe_dropout
        return self._tokenizer.encode_with_dropout(caption, length, dropout, random).ids

    def normalisers(self, batch: Batch) -> dict[str, float]:
        """Return the number of text tokens to predict: the text's loss is a mean over them, and captions differ."""
        targets = text_targets(batch["text"], self.config.model.layout, self.config.pads_are_targets)
        return {"text_targets": float((targets != IGNORED).sum())}

    def loss(
        self,
        model: nn.Module,
        batch: Batch,
        step: int,  # noqa: ARG002  this loss has no schedule
        noise: Noise,  # noqa: ARG002  its randomness is in the batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted cross-entropy of text and image tokens, and each of the two in nats per token."""
        assert isinstance(model, Prior)
        pads, count = self.config.pads_are_targets, batch["text_targets"]
        result = prior_loss(model, batch["text"], batch["image_tokens"], pads, count)
        return result.loss, {"nats_per_text_token": result.text, "nats_per_image_token": result.image}

    @torch.no_grad()
    def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:
        """Return nats per image token and per text token, each image with its first caption.

        ``image_token_unigram_entropy`` is for comparison: the nats per image token of a model that knows nothing but
        how often each code occurs.
        """
        assert isinstance(model, Prior)
        image_nats, text_nats, targets = 0.0, 0.0, 0
        for rows in row_batches(len(columns["image_tokens"]), batch_size):
            batch = self.batch(columns, rows)
            text, image_tokens = (batch[name].to(device_of(model)) for name in ("text", "image_tokens"))
            nats = token_nats(model, text, image_tokens)
            image_nats += nats.image.sum().item()
            text_nats += nats.text.sum().item()
            targets += int(nats.is_text_target.sum())
        return {
            "nats_per_image_token": image_nats / columns["image_tokens"].size,
            "nats_per_text_token": text_nats / targets,
            "image_token_unigram_entropy": unigram_entropy(columns["image_tokens"]),
        }

    @torch.no_grad()
    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:
        """Return a sheet with a row for each of a few captions: its own image, then samples at temperature 1.

        All of them are decoded by the dVAE.
        """
        assert isinstance(model, Prior)
        rows = np.array(evenly_spaced(len(columns["image_tokens"])))
        dvae = load_model(DVAE, DVAEConfig, fetch_directory(self._dvae_dir), str(device_of(model)))
        text = self.batch(columns, rows)["text"].numpy()
        samples = sample_tokens(model, text, SAMPLES_PER_CAPTION)
        tokens = np.concatenate([columns["image_tokens"][rows, None], samples], axis=1)
        images = to_uint8(dvae.decode(torch.from_numpy(tokens).flatten(0, 1).to(device_of(model)), model.layout.grid))
        captions = columns["captions"][columns["first"][rows]]
        labels = ["its own", *[f"sample {number}" for number in range(1, 1 + SAMPLES_PER_CAPTION)]]
        of_captions = zip(captions, images.reshape(*tokens.shape[:2], *images.shape[1:]), strict=True)
        return {"samples": captioned_sheet([SheetRow(caption, drawn, labels) for caption, drawn in of_captions])}


def sample_tokens(prior: Prior, text: np.ndarray, candidates: int) -> np.ndarray:
    """Sample image tokens int64 [B, candidates, N] for padded text int64 [B, T], at temperature 1 with seed 0."""
    engine = Engine(prior, slots=min(len(text), MAX_SHOWN) * candidates)
    for index, row in enumerate(text):
        words = tuple(row[row < prior.layout.text_vocabulary].tolist())
        engine.add(Request(str(index), words, candidates, seed=0))
    tokens = np.zeros((len(text), candidates, prior.layout.image_length), np.int64)
    while engine.has_work:
        for finished in engine.step().finished:
            tokens[int(finished.request_id), finished.candidate] = finished.image_tokens
    return tokens


def unigram_entropy(image_tokens: np.ndarray) -> float:
    """Return the entropy in nats of the frequencies of image tokens, int [n, N]."""
    _, counts = np.unique(image_tokens, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())
