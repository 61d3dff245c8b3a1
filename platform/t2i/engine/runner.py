"""The tensors of the engine: one prior, one cache, one row of state per slot.

Shapes never change: a prefill is always one caption, a decode step always all slots (idle ones compute along unread).
A candidate's arithmetic is then the same whoever its neighbours are, which the seed contract needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.prior import Prior, text_tensor
from models.prior.sampling import sample
from t2i.engine.scheduler import Running


class Runner:
    """Prefills captions into slots and makes one image token in every slot per call."""

    def __init__(self, prior: Prior, slots: int) -> None:
        self.prior = prior.eval()
        self.layout = prior.layout
        self.cache = prior.new_cache(slots)
        self._prefill_cache = prior.new_cache(1)
        device = self.cache.keys.device
        self.image_tokens = torch.zeros(slots, self.layout.image_length, dtype=torch.long, device=device)
        self._made = torch.zeros(slots, dtype=torch.long, device=device)
        self._seeds = torch.zeros(slots, dtype=torch.long, device=device)
        self._candidates = torch.zeros(slots, dtype=torch.long, device=device)
        self._temperatures = torch.ones(slots, device=device)
        self._first_hidden = torch.zeros(slots, prior.config.width, device=device, dtype=self.cache.keys.dtype)

    @torch.inference_mode()
    def prefill(self, text: Sequence[int], admitted: Sequence[Running]) -> None:
        """Read one caption once and give its keys and values to the slots of all its ``admitted`` candidates."""
        device = self.cache.keys.device
        stream = self.layout.prefix(text_tensor([text], self.layout)).to(device)
        positions = torch.arange(self.layout.prefix_length, device=device)[None]
        hidden = self.prior(stream, positions, self._prefill_cache)[0, -1]
        slots = [running.slot for running in admitted]
        self.cache.copy_prefix(self._prefill_cache, slots, self.layout.prefix_length)
        self._first_hidden[slots] = hidden
        for running in admitted:
            self._made[running.slot] = 0
            self._seeds[running.slot] = running.request.seed
            self._candidates[running.slot] = running.candidate
            self._temperatures[running.slot] = running.request.temperature

    @torch.inference_mode()
    def decode(self) -> None:
        """Make the next image token in every slot."""
        hidden = torch.where((self._made == 0)[:, None], self._first_hidden, self._feed_last_token())
        logits = self.prior.image_logits(hidden)
        token = sample(logits, self._seeds, self._candidates, self._made, self._temperatures)
        self.image_tokens.scatter_(1, self._made[:, None], token[:, None])
        self._made = (self._made + 1).clamp(max=self.layout.image_length - 1)

    def tokens(self, slot: int) -> Tensor:
        """Image tokens int64 [N] of a slot, those not made yet undefined."""
        return self.image_tokens[slot]

    def _feed_last_token(self) -> Tensor:
        """Hidden states [S, D] after each slot's newest image token; slots that have none feed a stray one."""
        last = (self._made - 1).clamp(min=0)
        stream = self.image_tokens.gather(1, last[:, None]) + self.layout.image_offset
        positions = (self.layout.prefix_length + last)[:, None]
        return self.prior(stream, positions, self.cache)[:, 0]
