"""Stage 1: fit the dVAE (paper section 2.1 and appendix A.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.devices import device_of
from models.dvae import DVAE, DVAEConfig, evidence_lower_bound
from models.dvae.blocks import ResidualBlock
from models.dvae.dvae import gumbel_softmax, reconstruction
from models.errors import UserError
from models.images import to_float
from models.settings import setting
from t2i.data.augment import dvae_view
from t2i.data.packed_images import decode_rows
from t2i.train.noise import Noise
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.optim.schedules import cosine_anneal, linear_warmup
from t2i.train.tasks.base import Batch, Columns, Task, row_batches
from t2i.train.tasks.images import centre_squares
from t2i.train.tasks.pictures import evenly, grid

CROP, GUMBEL = 0, 1
"""Streams of noise."""


@dataclass
class DVAETaskConfig:
    """The dVAE's schedules, all cosine; the defaults are the paper's."""

    model: DVAEConfig = setting(DVAEConfig, "sizes of the dVAE")
    optimizer: OptimizerConfig = setting(OptimizerConfig, "AdamW and EMA")
    image_size: int = setting(256, "side of the images the dVAE sees, in pixels")
    augment: bool = setting(True, "random crop, resize and mirror of training images: the paper's listing 1")
    lr_start: float = setting(1e-4, "first learning rate")
    lr_end: float = setting(1.25e-6, "last learning rate")
    lr_steps: int = setting(1_200_000, "steps from lr_start to lr_end")
    warmup_steps: int = setting(0, "steps of a linear warm-up; the paper has none")
    tau_start: float = setting(1.0, "first Gumbel-softmax temperature")
    tau_end: float = setting(1 / 16, "last Gumbel-softmax temperature")
    tau_steps: int = setting(150_000, "steps from tau_start to tau_end")
    beta_start: float = setting(0.0, "first weight of the KL term")
    beta_end: float = setting(6.6, "last weight of the KL term")
    beta_steps: int = setting(5_000, "steps from beta_start to beta_end")

    def __post_init__(self) -> None:
        if self.image_size % self.model.downsample:
            factor = self.model.downsample
            raise ValueError(
                f"task.image_size is {self.image_size}: use a multiple of {factor}, the dVAE's down-sampling."
            )


class DVAETask(Task):
    """Columns: ``pixels`` uint8 [n, S, S, 3] with S = image_size; or in training, always so to augment, ``image``,
    encoded and packed."""

    def __init__(self, config: DVAETaskConfig) -> None:
        self.config: DVAETaskConfig = config

    @property
    def optimizer(self) -> OptimizerConfig:
        return self.config.optimizer

    def lr(self, step: int) -> float:
        c = self.config
        return linear_warmup(step, c.warmup_steps) * cosine_anneal(step, c.lr_start, c.lr_end, c.lr_steps)

    def tau(self, step: int) -> float:
        """The Gumbel-softmax temperature of ``step``."""
        return cosine_anneal(step, self.config.tau_start, self.config.tau_end, self.config.tau_steps)

    def beta(self, step: int) -> float:
        """The weight of the KL term at ``step``."""
        return cosine_anneal(step, self.config.beta_start, self.config.beta_end, self.config.beta_steps)

    def build(self) -> nn.Module:
        """The dVAE in channels-last layout, which makes its convolutions a fifth faster on a CPU."""
        return DVAE(self.config.model).to(memory_format=torch.channels_last)

    def prepare(self, columns: Columns, model: nn.Module) -> Columns:
        """The columns as they are.

        Raises:
            UserError: the images are not of the size that the model takes.
        """
        side = columns["pixels"].shape[1] if "pixels" in columns else self.config.image_size
        if side != self.config.image_size:
            raise UserError(f"task.image_size is {self.config.image_size} but images are {side} px: make them agree.")
        return columns

    def residual_blocks(self, model: nn.Module) -> list[nn.Module]:
        return [module for module in model.modules() if isinstance(module, ResidualBlock)]

    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        if noise is not None and self.config.augment:
            images = zip(decode_rows(columns, rows)[1], noise.numpy(CROP), strict=True)
            views = [dvae_view(image, self.config.image_size, random) for image, random in images]
            return {"images": to_float(np.stack(views))}
        return {"images": to_float(centre_squares(columns, rows, self.config.image_size)[1])}

    def loss(self, model: nn.Module, batch: Batch, step: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        logits, maps = model(images, self.tau(step), noise.torch(GUMBEL, images.device))
        elb = evidence_lower_bound(images, maps, logits, self.beta(step))
        return elb.loss, {"reconstruction": elb.reconstruction, "kl": elb.kl * images[0].numel()}

    @torch.no_grad()
    def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:
        """PSNR of the argmax reconstruction in dB; the ELB (beta = 1) in nats per sub-pixel, the true one of sampled
        codes, that of relaxed codes (at the last tau), and how much the second flatters; KL in nats per image; the
        share of codes used and their perplexity."""
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

    def score(self, metrics: Mapping[str, float]) -> float:
        return -metrics["elb"]

    @torch.no_grad()
    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:
        """Originals over their argmax reconstructions."""
        assert isinstance(model, DVAE)
        shown = np.array(evenly(len(columns["pixels"])))
        images = next(self._images(model, columns, shown, len(shown)))
        return {"reconstructions": grid(torch.cat([images, model.decode(model.encode(images))]), columns=len(images))}

    def _images(self, model: nn.Module, columns: Columns, rows: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        for part in row_batches(len(rows), batch_size):
            yield self.batch(columns, rows[part])["images"].to(device_of(model))

    def _validate_batch(self, model: DVAE, images: Tensor, noise: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Image tokens [B, h, w] and the batch's mean metrics."""
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
    """Occurrences of each code int64 [K] -> the share of codes seen, and exp of their entropy (K if all alike)."""
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * share.log()).sum().item()
    return {"codes_used": len(share) / len(counts), "perplexity": math.exp(entropy)}
