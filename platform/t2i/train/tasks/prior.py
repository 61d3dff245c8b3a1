"""Stage 2: fit the prior on captions and image tokens (paper section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoint import load_model
from models.devices import device_of
from models.dvae import DVAE, DVAEConfig
from models.errors import UserError
from models.images import to_uint8
from models.prior import Prior, PriorConfig, prior_loss, text_tensor, token_nats
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
from t2i.train.tasks.base import Batch, Columns, Task, row_batches
from t2i.train.tasks.caption_choice import choose_captions, flatten_captions
from t2i.train.tasks.pictures import SHOWN, captioned, evenly

SAMPLES_PER_CAPTION = 4

CAPTION, MERGES, GUIDANCE = 0, 1, 2
"""Streams of noise."""


def _optimizer() -> OptimizerConfig:
    return OptimizerConfig(beta2=0.96, weight_decay=4.5e-2, clip_norm=4.0, ema_decay=0.99)


@dataclass
class PriorTaskConfig:
    """The prior's learning rate and captions; the defaults are the paper's.

    The paper halves the learning rate five times, at plateaus. Ours falls to the same 1/32 along a cosine: a pure
    function of the step, so that a resumed run needs no history of losses.
    """

    model: PriorConfig = setting(PriorConfig, "sizes of the prior")
    optimizer: OptimizerConfig = setting(_optimizer, "AdamW, clipping and EMA")
    lr: float = setting(4.5e-4, "learning rate after the warm-up")
    lr_end: float = setting(4.5e-4 / 32, "last learning rate")
    lr_steps: int = setting(430_000, "steps to lr_end")
    warmup_steps: int = setting(5_000, "steps of the linear warm-up")
    bpe_dropout: float = setting(0.1, "chance of every BPE merge to be left out in training")
    caption_dropout: float = setting(0.0, "chance of a caption to be left out in training, for guidance; the paper: 0")
    pads_are_targets: bool = setting(False, "learn every pad of a caption, not only the first, which ends it")
    caption_weights: list[float] = setting(
        list,
        "chance of an image's 1st, 2nd, ... caption, the last number holding for all further ones; empty: all alike",
    )

    def __post_init__(self) -> None:
        for field in ("bpe_dropout", "caption_dropout"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"task.{field} is {getattr(self, field)}: use 0 up to, but not, 1.")
        if any(weight < 0 for weight in self.caption_weights):
            raise ValueError("task.caption_weights has a negative number: use 0 or more.")
        if self.caption_weights and self.caption_weights[0] == 0:
            raise ValueError(
                "task.caption_weights begins with 0, but some images have one caption only: use more than 0."
            )


class PriorTask(Task):
    """Columns: ``image_tokens`` int32 [n, N], ``captions`` lists of str.

    :meth:`prepare` makes ``captions`` [M] and ``text`` int64 [M, T] of the captions of all images, one after the other,
    and for each image its ``first`` row and its ``count`` of them.
    """

    def __init__(self, config: PriorTaskConfig, tokenizer: str, dvae: str) -> None:
        self.config: PriorTaskConfig = config
        self._tokenizer_dir = tokenizer
        self._dvae_dir = dvae

    @property
    def optimizer(self) -> OptimizerConfig:
        return self.config.optimizer

    def lr(self, step: int) -> float:
        c = self.config
        return linear_warmup(step, c.warmup_steps) * cosine_anneal(step, c.lr, c.lr_end, c.lr_steps)

    def build(self) -> nn.Module:
        return Prior(self.config.model)

    def prepare(self, columns: Columns, model: nn.Module) -> Columns:
        """Tokenise every caption once.

        Raises:
            UserError: tokenizer or image tokens are not of the sizes that the prior has.
        """
        self._tokenizer = CaptionTokenizer.load(fetch_directory(self._tokenizer_dir))
        self._check_sizes(columns, self._tokenizer)
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
        assert isinstance(model, Prior)
        return list(model.blocks)

    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        """One caption of each image: its first; or, in training, at random and with both dropouts."""
        image_tokens = torch.from_numpy(columns["image_tokens"][rows].astype(np.int64))
        chosen = columns["first"][rows]
        if noise is None:
            return {"text": torch.from_numpy(columns["text"][chosen]), "image_tokens": image_tokens}
        chosen = chosen + choose_captions(columns["count"][rows], self.config.caption_weights, noise.uniform(CAPTION))
        return {"text": self._training_text(columns, chosen, noise), "image_tokens": image_tokens}

    def _training_text(self, columns: Columns, chosen: np.ndarray, noise: Noise) -> Tensor:
        """Rows of ``captions`` -> int64 [B, T], merges and whole captions left out by chance."""
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
        """Captions differ in length, and the text's loss is a mean over tokens."""
        targets = text_targets(batch["text"], self.config.model.layout, self.config.pads_are_targets)
        return {"text_targets": float((targets != IGNORED).sum())}

    def loss(self, model: nn.Module, batch: Batch, step: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(model, Prior)
        pads, count = self.config.pads_are_targets, batch["text_targets"]
        result = prior_loss(model, batch["text"], batch["image_tokens"], pads, count)
        return result.loss, {"nats_per_text_token": result.text, "nats_per_image_token": result.image}

    @torch.no_grad()
    def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:
        """Nats per image token and per text token, and what knowing nothing but the codes' frequencies would cost."""
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

    def score(self, metrics: Mapping[str, float]) -> float:
        return metrics["nats_per_image_token"]

    @torch.no_grad()
    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:
        """A row for each of a few captions: the image itself (through the dVAE), then samples at temperature 1."""
        assert isinstance(model, Prior)
        rows = np.array(evenly(len(columns["image_tokens"])))
        dvae = load_model(DVAE, DVAEConfig, fetch_directory(self._dvae_dir), str(device_of(model)))
        text = self.batch(columns, rows)["text"].numpy()
        samples = sample_tokens(model, text, SAMPLES_PER_CAPTION)
        tokens = np.concatenate([columns["image_tokens"][rows, None], samples], axis=1)
        images = to_uint8(dvae.decode(torch.from_numpy(tokens).flatten(0, 1).to(device_of(model)), model.layout.grid))
        captions = columns["captions"][columns["first"][rows]]
        labels = ["its own", *[f"sample {number}" for number in range(1, 1 + SAMPLES_PER_CAPTION)]]
        shown = zip(captions, images.reshape(*tokens.shape[:2], *images.shape[1:]), strict=True)
        return {"samples": captioned([SheetRow(caption, drawn, labels) for caption, drawn in shown])}

    def _check_sizes(self, columns: Columns, tokenizer: CaptionTokenizer) -> None:
        sizes, image_tokens = self.config.model, columns["image_tokens"]
        if tokenizer.vocabulary > sizes.text_vocabulary:
            known, most = tokenizer.vocabulary, sizes.text_vocabulary
            raise UserError(f"task.model.text_vocabulary is {most} but the tokenizer has {known} tokens: raise it.")
        if image_tokens.shape[1] != sizes.layout.image_length:
            shape = f"{sizes.grid_height} x {sizes.grid_width}"
            raise UserError(
                f"task.model's grid is {shape} but images have {image_tokens.shape[1]} tokens: make them agree."
            )
        if image_tokens.max() >= sizes.codebook_size:
            raise UserError(
                f"task.model.codebook_size is {sizes.codebook_size} but there is a token {image_tokens.max()}."
            )


def sample_tokens(prior: Prior, text: np.ndarray, candidates: int) -> np.ndarray:
    """Padded text int64 [B, T] -> image tokens int64 [B, candidates, N] at temperature 1, seed 0."""
    engine = Engine(prior, slots=min(len(text), SHOWN) * candidates)
    for index, row in enumerate(text):
        words = tuple(row[row < prior.layout.text_vocabulary].tolist())
        engine.add(Request(str(index), words, candidates, seed=0))
    tokens = np.zeros((len(text), candidates, prior.layout.image_length), np.int64)
    while engine.has_work:
        for finished in engine.step().finished:
            tokens[int(finished.request_id), finished.candidate] = finished.image_tokens
    return tokens


def unigram_entropy(image_tokens: np.ndarray) -> float:
    """Entropy in nats of the frequencies of image tokens."""
    _, counts = np.unique(image_tokens, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())
