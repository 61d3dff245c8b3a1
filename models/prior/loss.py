"""The prior's objective: text and image cross-entropy, weighed 1 : 7 (paper section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from models.prior.transformer import Prior

TEXT_WEIGHT = 1 / 8
IMAGE_WEIGHT = 7 / 8


@dataclass(frozen=True)
class PriorLoss:
    """Scalars: the weighed loss, and nats per text token and per image token."""

    loss: Tensor
    text: Tensor
    image: Tensor


def prior_loss(model: Prior, text: Tensor, image_tokens: Tensor) -> PriorLoss:
    """Text int64 [B, T] and image tokens int64 [B, N] -> the loss, each term over its own number of tokens.

    Pads are not text targets: predicting that a short caption goes on being over would drown the words.
    """
    layout = model.layout
    hidden = model(layout.inputs(text, image_tokens))
    prefix = layout.prefix_length
    text_logits = model.text_logits(hidden[:, : layout.text_length])
    image_logits = model.image_logits(hidden[:, prefix - 1 :])
    words = text.masked_fill(text >= layout.text_vocabulary, -100)
    text_loss = F.cross_entropy(text_logits.float().flatten(0, 1), words.flatten(), ignore_index=-100)
    image_loss = F.cross_entropy(image_logits.float().flatten(0, 1), image_tokens.flatten())
    return PriorLoss(TEXT_WEIGHT * text_loss + IMAGE_WEIGHT * image_loss, text_loss, image_loss)
