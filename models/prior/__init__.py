"""Stage 2: the transformer that models caption and image tokens as one stream (paper section 2.2)."""

from models.prior.accounting import PriorCost, StreamFlops, prior_cost, stream_flops
from models.prior.decoding.kv_cache import KVCache
from models.prior.loss import PriorLoss, TokenNats, prior_loss, token_nats
from models.prior.stream import TextTooLongError, text_tensor
from models.prior.transformer import Prior, PriorConfig

__all__ = [
    "KVCache",
    "Prior",
    "PriorConfig",
    "PriorCost",
    "PriorLoss",
    "StreamFlops",
    "TextTooLongError",
    "TokenNats",
    "prior_cost",
    "prior_loss",
    "stream_flops",
    "text_tensor",
    "token_nats",
]
