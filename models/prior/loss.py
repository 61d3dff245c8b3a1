"""The prior's objective: text and image cross-entropy, weighed 1 : 7 (paper section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from models.prior.stream import StreamLayout
from models.prior.transformer import Prior

TEXT_WEIGHT = 1 / 8
IMAGE_WEIGHT = 7 / 8
IGNORED = -100


@dataclass(frozen=True)
class PriorLoss:
    """Scalars: the weighed loss, and nats per text token and per image token."""

    loss: Tensor
    text: Tensor
    image: Tensor


@dataclass(frozen=True)
class TokenNats:
    """Nats of every token: ``text`` [B, T], 0 where ``is_text_target`` [B, T] is not, and ``image`` [B, N]."""

    text: Tensor
    is_text_target: Tensor
    image: Tensor


def prior_loss(
    model: Prior, text: Tensor, image_tokens: Tensor, pads_are_targets: bool = False, text_tokens: Tensor | None = None
) -> PriorLoss:
    """Text int64 [B, T] and image tokens int64 [B, N] -> the loss, each term over its own number of tokens.

    Of a part of a batch, ``text_tokens`` (0-d) is the mean number over the parts: then the mean of their losses is the
    loss of the whole batch.
    """
    nats = token_nats(model, text, image_tokens, pads_are_targets)
    text_tokens = nats.is_text_target.sum() if text_tokens is None else text_tokens
    text_loss, image_loss = nats.text.sum() / text_tokens, nats.image.mean()
    return PriorLoss(TEXT_WEIGHT * text_loss + IMAGE_WEIGHT * image_loss, text_loss, image_loss)


def token_nats(model: Prior, text: Tensor, image_tokens: Tensor, pads_are_targets: bool = False) -> TokenNats:
    """-ln p of every token given those before it; without pads as targets, its sum is -ln p(text, image tokens)."""
    layout = model.layout
    hidden = model(layout.inputs(text, image_tokens))
    text_logits = model.text_logits(hidden[:, : layout.text_length])
    image_logits = model.image_logits(hidden[:, layout.prefix_length - 1 :])
    targets = text_targets(text, layout, pads_are_targets)
    return TokenNats(_nats(text_logits, targets), targets != IGNORED, _nats(image_logits, image_tokens))


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits [B, P, V] and targets int64 [B, P] -> float32 [B, P], 0 where a target is ignored.

    Rows are laid end to end: to have the classes in the middle, as cross_entropy takes batches, is six times slower.
    """
    nats = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return nats.view_as(targets)


def text_targets(text: Tensor, layout: StreamLayout, pads_are_targets: bool = False) -> Tensor:
    """Text int64 [B, T] with every pad but a caption's first ignored, unless all pads are targets.

    Whether pads are targets is not stated in the paper. The first one says that the caption is over, and with it the
    words are a distribution over captions. The pads after it follow with certainty: learning them would give a caption
    of 8 words 248 trivial targets, and the text's eighth of the loss to them.
    """
    if pads_are_targets:
        return text
    pad = text >= layout.text_vocabulary
    return text.masked_fill(pad & (pad.cumsum(dim=1) > 1), IGNORED)
