"""Stage 2: the transformer that models caption and image tokens as one stream (paper section 2.2)."""

from models.prior.kv_cache import KVCache
from models.prior.loss import PriorLoss, prior_loss
from models.prior.stream import TextTooLong, text_tensor
from models.prior.transformer import Prior, PriorConfig

__all__ = ["KVCache", "Prior", "PriorConfig", "PriorLoss", "TextTooLong", "prior_loss", "text_tensor"]
