"""The prior's objective: cross-entropy of text and image tokens, weighted 1/8 and 7/8 (paper section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from models.prior.stream import StreamLayout
from models.prior.transformer import Prior

TEXT_WEIGHT = 1 / 8
IMAGE_WEIGHT = 7 / 8
IGNORED = -100
"""Target of the text positions that are not learned (cross_entropy's ``ignore_index``)."""


@dataclass(frozen=True)
class PriorLoss:
    """The loss of a batch, 0-d tensors: ``loss`` = ``text`` / 8 + 7 ``image`` / 8, both in nats per token."""

    loss: Tensor
    text: Tensor
    image: Tensor


@dataclass(frozen=True)
class TokenNats:
    """-ln p in nats of every token, float32: ``text`` [B, T] and ``image`` [B, N].

    Where bool ``is_text_target`` [B, T] is false, ``text`` is 0 and stands for no token.
    """

    text: Tensor
    is_text_target: Tensor
    image: Tensor


def prior_loss(
    model: Prior, text: Tensor, image_tokens: Tensor, pads_are_targets: bool = False, text_tokens: Tensor | None = None
) -> PriorLoss:
    """Return the loss of text int64 [B, T] and image tokens int64 [B, N], each term a mean over its own tokens.

    Microbatches (or workers) have different numbers of text tokens. Give each of them the mean number of their targets
    as ``text_tokens`` (0-d): then the mean of their losses is the loss of the whole batch.
    """
    nats = token_nats(model, text, image_tokens, pads_are_targets)
    text_tokens = nats.is_text_target.sum() if text_tokens is None else text_tokens
    text_loss, image_loss = nats.text.sum() / text_tokens, nats.image.mean()
    return PriorLoss(TEXT_WEIGHT * text_loss + IMAGE_WEIGHT * image_loss, text_loss, image_loss)


def token_nats(model: Prior, text: Tensor, image_tokens: Tensor, pads_are_targets: bool = False) -> TokenNats:
    """Return -ln p of every token, given those before it, of text int64 [B, T] and image tokens int64 [B, N].

    Unless ``pads_are_targets``, the sum over a stream is -ln p(text, image tokens).
    """
    layout = model.layout
    hidden = model(layout.inputs(text, image_tokens))
    text_logits = model.text_logits(hidden[:, : layout.text_length])
    image_logits = model.image_logits(hidden[:, layout.prefix_length - 1 :])
    targets = text_targets(text, layout, pads_are_targets)
    return TokenNats(_nats(text_logits, targets), targets != IGNORED, _nats(image_logits, image_tokens))


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy float32 [B, n] of logits [B, n, classes] and targets int64 [B, n], 0 where ignored."""
    # Flattened to [B n, classes]: with classes in dimension 1, as cross_entropy takes batches, it is six times slower.
    nats = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return nats.view_as(targets)


def text_targets(text: Tensor, layout: StreamLayout, pads_are_targets: bool = False) -> Tensor:
    """Return the targets int64 [B, T] of text int64 [B, T]: pads after a caption's first one are ``IGNORED``.

    The paper does not state whether pads are targets. The first one marks the end of the caption, without which the
    words would not be a distribution over captions. The later ones follow with certainty: a caption of 8 words would
    have 248 of them, nearly all of the text's eighth of the loss. With ``pads_are_targets`` all pads are targets.
    """
    if pads_are_targets:
        return text
    pad = text >= layout.text_vocabulary
    return text.masked_fill(pad & (pad.cumsum(dim=1) > 1), IGNORED)
