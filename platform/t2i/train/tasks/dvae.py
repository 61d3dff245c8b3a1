"""Stage 1: training of the dVAE (paper section 2.1 and appendix A.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from models.devices import device_of
from models.dvae import DVAE, DVAEConfig, dvae_flops, evidence_lower_bound
from models.dvae.blocks import ResidualBlock
from models.dvae.dvae import gumbel_softmax, reconstruction
from models.errors import UserError
from models.images import to_float
from models.settings import setting
from t2i.data.augment import dvae_view
from t2i.data.packed_images import decode_rows
from t2i.train.config import TrainConfig
from t2i.train.noise import Noise
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.optim.schedules import cosine_anneal, linear_warmup
from t2i.train.tasks.base import Batch, Columns, Headline, Task, Work, row_batches
from t2i.train.tasks.images import centre_squares
from t2i.train.tasks.pictures import evenly_spaced, image_grid

CROP, GUMBEL = 0, 1
"""Streams of noise: the random crop of an image, and the samples of its codes."""


@dataclass
class DVAETaskConfig:
    """Sizes, optimizer and schedules, all of them cosines; the defaults are the paper's."""

    model: DVAEConfig = setting(DVAEConfig, "sizes of the dVAE")
    optimizer: OptimizerConfig = setting(OptimizerConfig, "AdamW and EMA")
    image_size: int = setting(256, "side of the images the dVAE sees, in pixels", at_least=1)
    augment: bool = setting(True, "random crop, resize and mirror of training images: the paper's listing 1")
    decoder_only: bool = setting(
        False, "train the decoder alone, on the argmax tokens that priors learn and draw; needs train.start_from"
    )
    lr_start: float = setting(1e-4, "first learning rate", above=0)
    lr_end: float = setting(1.25e-6, "last learning rate", at_least=0)
    lr_steps: int = setting(1_200_000, "steps from lr_start to lr_end", at_least=1)
    warmup_steps: int = setting(0, "steps of a linear warm-up; the paper has none", at_least=0)
    tau_start: float = setting(1.0, "first Gumbel-softmax temperature", above=0)
    tau_end: float = setting(1 / 16, "last Gumbel-softmax temperature", above=0)
    tau_steps: int = setting(150_000, "steps from tau_start to tau_end", at_least=1)
    beta_start: float = setting(0.0, "first weight of the KL term", at_least=0)
    beta_end: float = setting(6.6, "last weight of the KL term", at_least=0)
    beta_steps: int = setting(5_000, "steps from beta_start to beta_end", at_least=1)

    def __post_init__(self) -> None:
        if self.image_size % self.model.downsample:
            factor = self.model.downsample
            raise ValueError(
                f"task.image_size is {self.image_size}: use a multiple of {factor}, the dVAE's down-sampling."
            )


class DVAETask(Task):
    """Trains a dVAE on n images.

    Columns: ``pixels`` uint8 [n, H, W, 3] with H = W = image_size, or in training ``image``, encoded and packed.
    Augmentation crops whole images, so that it needs the latter.
    """

    # Not the headline: the thresholds of monitor/advice.py were tried on recorded curves of this one.
    overfitting_metric = Headline("psnr", higher_is_better=True)
    training_metrics: ClassVar = {
        "reconstruction": "dVAE: reconstruction, nats per sub-pixel",
        "kl": "dVAE: KL, nats per image",
    }
    validation_metrics: ClassVar = {
        "psnr": "dVAE: PSNR of reconstructions, dB",
        "elb": "dVAE: evidence lower bound, nats per sub-pixel",
        "codes_used": "dVAE: share of the codebook in use",
        "perplexity": "dVAE: perplexity of the codebook",
    }

    def __init__(self, config: DVAETaskConfig) -> None:
        self.config: DVAETaskConfig = config

    @property
    def headline(self) -> Headline:
        """The bound of sampled codes; of a decoder that is trained on argmax tokens, their reconstruction."""
        return Headline("psnr" if self.config.decoder_only else "elb", higher_is_better=True)

    def check(self, config: TrainConfig) -> None:
        """Refuse to train a decoder without an encoder that has learnt.

        Raises:
            UserError: that was asked for, or what :meth:`Task.check` refuses.
        """
        super().check(config)
        if self.config.decoder_only and not config.start_from:
            raise UserError("task.decoder_only is true: name the dVAE to begin with in train.start_from.")

    @property
    def optimizer(self) -> OptimizerConfig:
        """The configured AdamW, clipping norm and EMA."""
        return self.config.optimizer

    def lr(self, step: int) -> float:
        """Return the learning rate: a cosine from ``lr_start`` to ``lr_end``, times a linear warm-up."""
        c = self.config
        return linear_warmup(step, c.warmup_steps) * cosine_anneal(step, c.lr_start, c.lr_end, c.lr_steps)

    def tau(self, step: int) -> float:
        """Return the Gumbel-softmax temperature of ``step``."""
        return cosine_anneal(step, self.config.tau_start, self.config.tau_end, self.config.tau_steps)

    def beta(self, step: int) -> float:
        """Return the weight of the KL term at ``step``."""
        return cosine_anneal(step, self.config.beta_start, self.config.beta_end, self.config.beta_steps)

    def work(self, batch_size: int, recomputed: bool = False) -> Work:  # noqa: ARG002  recomputed FLOPs are not counted
        """Return the images of an update, and the FLOPs of forward and backward, of a frozen encoder forward only."""
        flops = dvae_flops(self.config.model, self.config.image_size)
        of_image = flops.forward + 2 * flops.decoder if self.config.decoder_only else flops.training
        return Work(batch_size, "images", batch_size * of_image)

    def build(self) -> nn.Module:
        """Return the dVAE in channels-last layout, which makes its convolutions a fifth faster on a CPU."""
        model = DVAE(self.config.model).to(memory_format=torch.channels_last)
        model.encoder.requires_grad_(not self.config.decoder_only)
        return model

    def prepare(self, columns: Columns, model: nn.Module) -> Columns:  # noqa: ARG002  pixels need no model
        """Return the columns as they are, after a check of the images' size.

        Raises:
            UserError: the images are not of the size that the model takes.
        """
        side = columns["pixels"].shape[1] if "pixels" in columns else self.config.image_size
        if side != self.config.image_size:
            raise UserError(f"task.image_size is {self.config.image_size} but images are {side} px: make them agree.")
        return columns

    def residual_blocks(self, model: nn.Module) -> list[nn.Module]:
        """Return the residual blocks of encoder and decoder."""
        return [module for module in model.modules() if isinstance(module, ResidualBlock)]

    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        """Return ``images`` float32 [B, 3, H, W] in [0, 1]: random views in augmented training, else whole squares."""
        if noise is not None and self.config.augment:
            images = zip(decode_rows(columns, rows)[1], noise.numpy(CROP), strict=True)
            views = [dvae_view(image, self.config.image_size, random) for image, random in images]
            return {"images": to_float(np.stack(views))}
        return {"images": to_float(centre_squares(columns, rows, self.config.image_size)[1])}

    def loss(self, model: nn.Module, batch: Batch, step: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative ELB of relaxed codes in nats per sub-pixel, its KL weighted by beta; and its two terms.

        With ``decoder_only`` the codes are those of the argmax. The scalar ``kl`` is unweighted, in nats per image.
        """
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        if self.config.decoder_only:
            assert isinstance(model, DVAE)
            with torch.no_grad():
                logits = model.encode_logits(images)
            maps = model.decoder.from_tokens(logits.argmax(dim=1))
        else:
            logits, maps = model(images, self.tau(step), noise.torch(GUMBEL, images.device))
        elb = evidence_lower_bound(images, maps, logits, self.beta(step))
        return elb.loss, {"reconstruction": elb.reconstruction, "kl": elb.kl * images[0].numel()}

    @torch.no_grad()
    def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:
        """Return means over the images, and how the codebook is used.

        - ``psnr``: of the reconstruction from argmax codes, dB.
        - ``elb``: the evidence lower bound (beta = 1) of sampled codes, nats per sub-pixel.
        - ``elb_relaxed``: the same of relaxed codes at the last tau; ``elb_gap`` is by how much it is higher.
        - ``kl``: nats per image.
        - ``codes_used``, ``perplexity``: see :func:`codebook_use`.
        """
        assert isinstance(model, DVAE)
        codes, n = torch.zeros(self.config.model.codebook_size, dtype=torch.long), len(columns["pixels"])
        noise = torch.Generator(device_of(model)).manual_seed(0)
        totals: dict[str, float] = {}
        for images in self._images(model, columns, np.arange(n), batch_size):
            tokens, metrics = self._validate_batch(model, images, noise)
            codes += tokens.flatten().bincount(minlength=len(codes)).cpu()
            for name, value in metrics.items():
                totals[name] = totals.get(name, 0.0) + value.item() * len(images) / n
        return {**totals, **codebook_use(codes)}

    @torch.no_grad()
    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:
        """Return a grid of a few images over their reconstructions from argmax codes."""
        assert isinstance(model, DVAE)
        rows = np.array(evenly_spaced(len(columns["pixels"])))
        images = next(self._images(model, columns, rows, len(rows)))
        both = torch.cat([images, model.decode(model.encode(images))])
        return {"reconstructions": image_grid(both, columns=len(images))}

    def _images(self, model: nn.Module, columns: Columns, rows: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        for places in row_batches(len(rows), batch_size):
            yield self.batch(columns, rows[places])["images"].to(device_of(model))

    def _validate_batch(self, model: DVAE, images: Tensor, noise: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return image tokens [B, h, w] and the batch's mean metrics, each []."""
        logits = model.encode_logits(images)
        tokens = logits.argmax(dim=1)
        error = (reconstruction(model.decoder.from_tokens(tokens)) - images).square().mean(dim=(1, 2, 3))
        hard_sample = gumbel_softmax(logits, 1.0, [noise]).argmax(dim=1)
        hard = evidence_lower_bound(images, model.decoder.from_tokens(hard_sample), logits, beta=1.0)
        relaxed_maps = model.decoder(gumbel_softmax(logits, self.config.tau_end, [noise]))
        relaxed = evidence_lower_bound(images, relaxed_maps, logits, beta=1.0)
        return tokens, {
            "psnr": -10 * error.clamp(min=1e-10).log10().mean(),
            "elb": -hard.loss,
            "elb_relaxed": -relaxed.loss,
            "elb_gap": hard.loss - relaxed.loss,
            "kl": hard.kl * images[0].numel(),
        }


def codebook_use(counts: Tensor) -> dict[str, float]:
    """Return the share of codes that occur and their perplexity, given the occurrences of each code int64 [K].

    The perplexity is exp of the entropy of the codes' frequencies: 1 for a single code, K if all occur equally often.
    """
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * share.log()).sum().item()
    return {"codes_used": len(share) / len(counts), "perplexity": math.exp(entropy)}
