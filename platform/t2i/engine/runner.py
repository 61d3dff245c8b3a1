"""The tensors of the engine: one prior, one cache, one row of state per slot.

Shapes never change: a prefill is always one caption, a decode step always all slots (idle ones compute along unread).
A candidate's arithmetic is then the same whoever its neighbours are, which the seed contract needs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from models.prior import Prior, text_tensor
from models.prior.decoding.shared_text import Caption
from models.prior.sampling import apply_top_k_top_p, noise_keys, sample
from t2i.engine.scheduler import UNCONDITIONAL, RunningCandidate
from t2i.logs import get_logger

logger = get_logger("engine")


class Runner:
    """Reads captions and makes one image token in every slot per call."""

    def __init__(self, prior: Prior, slots: int, captions: int) -> None:
        self.prior = prior.eval()
        self.layout = prior.layout
        self.cache = prior.new_cache(slots, captions)
        device = self.cache.device
        self._decode = self.prior.decode
        self._after_text: dict[Caption, Tensor] = {}  # hidden state after each caption held
        self._image_tokens = torch.zeros(slots, self.layout.image_length, dtype=torch.long, device=device)
        self._next = torch.zeros(slots, dtype=torch.long, device=device)  # the position to be made
        self._fresh = torch.zeros(slots, dtype=torch.bool, device=device)  # its hidden state comes from a prefill
        self._prefilled = torch.zeros(slots, prior.config.width, device=device, dtype=self.cache.dtype)
        self._keys = torch.zeros(slots, dtype=torch.long, device=device)
        self._temperatures = torch.ones(slots, device=device)
        self._guided: list[RunningCandidate] = []  # those whose logits a twin's guide,
        self._restricted: list[RunningCandidate] = []  # and those some of whose tokens are ruled out

    @torch.inference_mode()
    def compile(self) -> None:
        """Make one graph of the prior's part of a step (on a GPU a CUDA graph), run it, and log the time.

        What the compiler makes is kept on disk, so that the next process takes seconds where the first took a minute.
        Where it cannot, for want of a C++ compiler say, the step stays as it is, with a warning.
        """
        begin, mode = time.perf_counter(), "reduce-overhead" if self.cache.device.type == "cuda" else "default"
        self.cache.make_static()
        self._decode = torch.compile(self.prior.decode, mode=mode, dynamic=False)
        try:
            for _ in range(3):  # compile, record, replay
                self._feed_last_token()
            logger.info("compiled the decoding step in %.0f s", time.perf_counter() - begin)
        except Exception as error:  # a compiler raises nearly anything
            logger.warning("the decode step is not compiled, it runs as it is: %s", str(error).splitlines()[0])
            self.cache.text.static = False
            self._decode = self.prior.decode

    @torch.inference_mode()
    def assign(self, admitted: Sequence[RunningCandidate], running: Sequence[RunningCandidate]) -> None:
        """From now on the slots in use are those of ``running``, of which ``admitted`` begin.

        A caption is read once for all its candidates, and forgotten when none is left.
        """
        members = _members(running)
        self.cache.text.evict(members)
        for caption in members:
            if caption not in self.cache.text:
                self._after_text[caption] = self.prior.prefill_text(self._prefix(caption), self.cache, caption)
        self._after_text = {caption: self._after_text[caption] for caption in members}
        for _, group in groupby(sorted(admitted, key=_request_id), key=_request_id):
            self._start(list(group))
        self.cache.text.assign(members)
        self._guided = [r for r in running if r.request.sampling.uses_guidance]
        self._restricted = [r for r in running if r.request.sampling.uses_top_k_top_p]

    @torch.inference_mode()
    def decode(self) -> None:
        """Make the next image token in every slot."""
        hidden = torch.where(self._fresh[:, None], self._prefilled, self._feed_last_token())
        logits = self.prior.image_logits(hidden)
        if self._guided:
            logits = self._guide(logits)
        if self._restricted:
            logits = self._restrict(logits)
        token = sample(logits, self._keys, self._next, self._temperatures)
        if self._guided:
            token[_twins(self._guided)] = token[_slots(self._guided)]
        self._image_tokens.scatter_(1, self._next[:, None], token[:, None])
        self._fresh.fill_(False)
        self._next = (self._next + 1).clamp(max=self.layout.image_length - 1)

    def image_tokens(self, running: Sequence[RunningCandidate]) -> list[np.ndarray]:
        """The image tokens int32 of each of ``running`` that are there."""
        if not running:  # as at most steps
            return []
        tokens = self._image_tokens[_slots(running)].to("cpu", torch.int32).numpy()
        return [row[: r.tokens] for row, r in zip(tokens, running, strict=True)]

    def _start(self, admitted: Sequence[RunningCandidate]) -> None:
        """Begin the streams of some candidates of one request."""
        request, device = admitted[0].request, self.cache.device
        slots, twins = _slots(admitted), _twins(admitted)
        self._begin(slots, request.text, request.prefix)
        if twins:
            self._begin(twins, UNCONDITIONAL, request.prefix)
        seeds = torch.full((len(slots),), request.seed, device=device)
        self._keys[slots] = noise_keys(seeds, torch.tensor([r.candidate for r in admitted], device=device))
        self._temperatures[slots] = request.sampling.temperature

    def _begin(self, slots: list[int], text: Caption, prefix: Sequence[int]) -> None:
        """Begin streams in ``slots`` with the image tokens ``prefix``."""
        hidden = self._after_text[text]
        if prefix:
            image_tokens = torch.tensor(list(prefix), device=self.cache.device)
            stream = torch.cat([self._prefix(text), image_tokens[None] + self.layout.image_offset], dim=1)
            hidden = self.prior.prefill_image(stream, self.cache, slots)
            self._image_tokens[slots, : len(prefix)] = image_tokens
        self._prefilled[slots] = hidden
        self._next[slots], self._fresh[slots] = len(prefix), True

    def _prefix(self, text: Caption) -> Tensor:
        """What comes before the image tokens in the stream of a caption, int64 [1, T + 2]."""
        return self.layout.prefix(text_tensor([text], self.layout)).to(self.cache.device)

    def _feed_last_token(self) -> Tensor:
        """Hidden states [S, D] after each slot's newest image token; slots that have none feed a stray one."""
        last = (self._next - 1).clamp(min=0)
        return self._decode(self._image_tokens.gather(1, last[:, None])[:, 0], last, self.cache)

    def _guide(self, logits: Tensor) -> Tensor:
        """Logits [S, K] with those of guided slots drawn away from their twins'."""
        slots, twins = _slots(self._guided), _twins(self._guided)
        scale = torch.tensor([r.request.sampling.guidance for r in self._guided], device=logits.device)
        logits = logits.float()
        logits[slots] = logits[twins] + scale[:, None] * (logits[slots] - logits[twins])
        return logits

    def _restrict(self, logits: Tensor) -> Tensor:
        """Logits [S, K] with tokens ruled out in the slots that ask for it."""
        slots, settings = _slots(self._restricted), [r.request.sampling for r in self._restricted]
        top_k = torch.tensor([sampling.top_k for sampling in settings], device=logits.device)
        top_p = torch.tensor([sampling.top_p for sampling in settings], device=logits.device)
        logits = logits.float()
        logits[slots] = apply_top_k_top_p(logits[slots], self._temperatures[slots], top_k, top_p)
        return logits


def _members(running: Iterable[RunningCandidate]) -> dict[Caption, list[int]]:
    """The slots that read each caption, both in order."""
    members: dict[Caption, list[int]] = defaultdict(list)
    for candidate in sorted(running, key=lambda candidate: candidate.slot):
        members[candidate.request.text].append(candidate.slot)
        if candidate.twin is not None:
            members[UNCONDITIONAL].append(candidate.twin)
    return dict(members)


def _slots(running: Iterable[RunningCandidate]) -> list[int]:
    return [r.slot for r in running]


def _twins(running: Iterable[RunningCandidate]) -> list[int]:
    return [r.twin for r in running if r.twin is not None]


def _request_id(running: RunningCandidate) -> str:
    return running.request.id
