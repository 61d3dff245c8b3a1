"""The tensors of the engine: one prior, one cache, one row of state per slot.

Shapes never change: a prefill is always one caption, a decode step always all slots (idle ones compute along unread).
A candidate's arithmetic is then the same whoever its neighbours are, which the seed contract needs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from models.prior import Prior, text_tensor
from models.prior.kv_cache import Caption
from models.prior.sampling import restrict, sample
from t2i.engine.scheduler import Running


class Runner:
    """Prefills captions into slots and makes one image token in every slot per call."""

    def __init__(self, prior: Prior, slots: int) -> None:
        self.prior = prior.eval()
        self.layout = prior.layout
        self.cache = prior.new_cache(slots)
        device = self.cache.device
        self._read: dict[Caption, Tensor] = {}  # hidden state after each caption held, without a prefix
        self.image_tokens = torch.zeros(slots, self.layout.image_length, dtype=torch.long, device=device)
        self._next = torch.zeros(slots, dtype=torch.long, device=device)  # the position to be made
        self._fresh = torch.zeros(slots, dtype=torch.bool, device=device)  # its hidden state comes from the prefill
        self._prefilled = torch.zeros(slots, prior.config.width, device=device, dtype=self.cache.dtype)
        self._seeds = torch.zeros(slots, dtype=torch.long, device=device)
        self._candidates = torch.zeros(slots, dtype=torch.long, device=device)
        self._temperatures = torch.ones(slots, device=device)
        self._top_k = torch.zeros(slots, dtype=torch.long, device=device)
        self._top_p = torch.ones(slots, device=device)
        self._guidance = torch.ones(slots, device=device)
        self._twin = torch.arange(slots, device=device)  # whose logits guide this slot's; its own where nothing does
        self._leader = self._twin.clone()  # whose token this slot takes; its own but for twins
        self._restricted: set[int] = set()

    def start(self, admitted: Sequence[Running]) -> None:
        """Put ``admitted`` candidates of one request into their slots, their caption read once for all."""
        request = admitted[0].request
        self._prefill(request.text, request.prefix, [running.slot for running in admitted])
        if twins := [running.twin for running in admitted if running.twin is not None]:
            self._prefill((), request.prefix, twins)
        for running in admitted:
            slot, twin, sampling = running.slot, running.twin, request.sampling
            self._seeds[slot], self._candidates[slot] = request.seed, running.candidate
            self._temperatures[slot], self._guidance[slot] = sampling.temperature, sampling.guidance
            self._top_k[slot], self._top_p[slot] = sampling.top_k, sampling.top_p
            (self._restricted.add if sampling.restricts else self._restricted.discard)(slot)
            self._leader[slot], self._twin[slot] = slot, slot if twin is None else twin
            if twin is not None:
                self._leader[twin], self._twin[twin] = slot, twin
                self._restricted.discard(twin)

    def hold(self, running: Iterable[Running]) -> None:
        """From now on the slots in use are those of ``running``; captions that none of them has are forgotten."""
        members: dict[Caption, list[int]] = defaultdict(list)
        for candidate in running:
            members[candidate.request.text].append(candidate.slot)
            if candidate.twin is not None:
                members[()].append(candidate.twin)
        self.cache.hold(members)
        self._read = {caption: hidden for caption, hidden in self._read.items() if caption in members}

    @torch.inference_mode()
    def decode(self) -> None:
        """Make the next image token in every slot."""
        hidden = torch.where(self._fresh[:, None], self._prefilled, self._feed_last_token())
        logits = self.prior.image_logits(hidden).float()
        uncaptioned = logits[self._twin]
        logits = uncaptioned + self._guidance[:, None] * (logits - uncaptioned)
        if self._restricted:
            logits = restrict(logits, self._temperatures, self._top_k, self._top_p)
        token = sample(logits, self._seeds, self._candidates, self._next, self._temperatures)[self._leader]
        self.image_tokens.scatter_(1, self._next[:, None], token[:, None])
        self._fresh.fill_(False)
        self._next = (self._next + 1).clamp(max=self.layout.image_length - 1)

    def tokens(self, slot: int) -> Tensor:
        """Image tokens int64 [N] of a slot, those not made yet undefined."""
        return self.image_tokens[slot]

    @torch.inference_mode()
    def _prefill(self, text: Caption, prefix: Sequence[int], slots: list[int]) -> None:
        """Begin streams in ``slots``: read the caption unless it is held, and the image tokens they begin with."""
        image_tokens = torch.tensor([list(prefix)], dtype=torch.long)
        hidden = None if prefix else self._read.get(text)
        if hidden is None:
            ids = self.layout.prefix(text_tensor([text], self.layout))
            stream = torch.cat([ids, image_tokens + self.layout.image_offset], dim=1).to(self.cache.device)
            hidden = self.prior.prefill(stream, self.cache, text, slots)
            if not prefix:
                self._read[text] = hidden
        self._prefilled[slots] = hidden
        self.image_tokens[slots, : len(prefix)] = image_tokens.to(self.cache.device)
        self._next[slots], self._fresh[slots] = len(prefix), True

    def _feed_last_token(self) -> Tensor:
        """Hidden states [S, D] after each slot's newest image token; slots that have none feed a stray one."""
        last = (self._next - 1).clamp(min=0)
        return self.prior.decode(self.image_tokens.gather(1, last[:, None])[:, 0], last, self.cache)
