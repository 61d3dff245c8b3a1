"""The tensors of the engine: the prior, its KV cache, and the state of every slot.

Shapes never change: a prefill is always of one caption, a decode step always of all S slots; what idle slots compute
is never read. A candidate's arithmetic is then the same whatever runs beside it, which the seed contract needs.
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
from models.processor import reuse_only_code_for_this_processor
from t2i.engine.scheduler import UNCONDITIONAL, RunningCandidate
from t2i.logs import get_logger

logger = get_logger("engine")


class Runner:
    """Prefills captions and makes one image token in every slot per decode step."""

    def __init__(self, prior: Prior, slots: int, captions: int) -> None:
        self.prior = prior.eval()
        self.layout = prior.layout
        self.cache = prior.new_cache(slots, captions)
        device = self.cache.device
        self._decode = self.prior.decode
        self._after_text: dict[Caption, Tensor] = {}  # hidden state [D] at start-of-image, of each caption held
        self._image_tokens = torch.zeros(slots, self.layout.image_length, dtype=torch.long, device=device)
        self._next = torch.zeros(slots, dtype=torch.long, device=device)  # position of the next image token
        self._fresh = torch.zeros(slots, dtype=torch.bool, device=device)  # the next step uses _prefilled, see decode
        self._prefilled = torch.zeros(slots, prior.config.width, device=device, dtype=self.cache.dtype)
        self._keys = torch.zeros(slots, dtype=torch.long, device=device)  # of the sampling noise
        self._temperatures = torch.ones(slots, device=device)
        self._guided: list[RunningCandidate] = []
        self._filtered: list[RunningCandidate] = []  # with top_k or top_p

    @torch.inference_mode()
    def compile(self) -> None:
        """Compile the prior's part of the decode step (on a GPU into a CUDA graph), run it, and log the time taken.

        The compiler caches its output on disk: the first process takes a minute, later ones seconds. If it fails, for
        example for want of a C++ compiler, a warning is logged and the step runs uncompiled.
        """
        begin, mode = time.perf_counter(), "reduce-overhead" if self.cache.device.type == "cuda" else "default"
        self.cache.make_static()
        reuse_only_code_for_this_processor()
        self._decode = torch.compile(self.prior.decode, mode=mode, dynamic=False)
        try:
            for _ in range(3):  # compile, record the CUDA graph, replay it
                self._feed_last_token()
            logger.info("compiled the decoding step in %.0f s", time.perf_counter() - begin)
        except Exception as error:  # a compiler raises nearly anything
            logger.warning("the decode step could not be compiled, it runs as it is: %s", str(error).splitlines()[0])
            self.cache.text.static = False
            self._decode = self.prior.decode

    @torch.inference_mode()
    def assign(self, admitted: Sequence[RunningCandidate], running: Sequence[RunningCandidate]) -> None:
        """Prepare the slots for the next decode step: ``running`` are all that take part, ``admitted`` the new ones."""
        # The KV cache of text holds each caption once, for all slots that read it. Captions that nobody reads any more
        # are evicted first, as the new ones may need their rows. New captions are prefilled one by one, never as a
        # batch: in a batch the rounding of one would depend on how many others happen to arrive at the same step.
        slots_of = _slots_of_captions(running)
        self.cache.text.evict(slots_of)
        for caption in slots_of:
            if caption not in self.cache.text:
                self._after_text[caption] = self.prior.prefill_text(self._prefix(caption), self.cache, caption)
        self._after_text = {caption: self._after_text[caption] for caption in slots_of}
        for _, group in groupby(sorted(admitted, key=_request_id), key=_request_id):
            self._start(list(group))
        self.cache.text.assign(slots_of)
        self._guided = [r for r in running if r.request.sampling.is_guided]
        self._filtered = [r for r in running if r.request.sampling.filters_tokens]

    @torch.inference_mode()
    def decode(self) -> None:
        """Make the next image token in every slot."""
        # A slot that started just now is fresh: the hidden state for its next token comes from its prefill, after
        # start-of-image or after the prefix's last token. It is fed a token all the same, as the shape is fixed. What
        # that computes is not used, and what it writes to the cache does no harm: with a prefix it feeds the last token
        # again, to the same place; without one it feeds what is left in place 0, which the next step overwrites.
        hidden = torch.where(self._fresh[:, None], self._prefilled, self._feed_last_token())  # [S, D]
        logits = self.prior.image_logits(hidden)  # [S, K]
        if self._guided:
            logits = self._guide(logits)
        if self._filtered:
            logits = self._filter(logits)
        tokens = sample(logits, self._keys, self._next, self._temperatures)  # [S]
        if self._guided:  # a twin continues with its candidate's token, not with one of its own
            tokens[_twins(self._guided)] = tokens[_slots(self._guided)]
        self._image_tokens.scatter_(1, self._next[:, None], tokens[:, None])
        self._fresh.fill_(False)
        self._next = (self._next + 1).clamp(max=self.layout.image_length - 1)  # idle slots stay at the last position

    def image_tokens(self, running: Sequence[RunningCandidate]) -> list[np.ndarray]:
        """Return the image tokens that each of ``running`` has by now, int32, as many as its ``tokens``."""
        if not running:  # as at most steps, where copying from the device would only wait
            return []
        tokens = self._image_tokens[_slots(running)].to("cpu", torch.int32).numpy()
        return [row[: r.tokens] for row, r in zip(tokens, running, strict=True)]

    def _start(self, admitted: Sequence[RunningCandidate]) -> None:
        """Set up the slots of candidates of one request, and of their twins."""
        request, device = admitted[0].request, self.cache.device
        slots, twins = _slots(admitted), _twins(admitted)
        self._begin(slots, request.text, request.prefix)
        if twins:
            self._begin(twins, UNCONDITIONAL, request.prefix)
        seeds = torch.full((len(slots),), request.seed, device=device)
        self._keys[slots] = noise_keys(seeds, torch.tensor([r.candidate for r in admitted], device=device))
        self._temperatures[slots] = request.sampling.temperature

    def _begin(self, slots: list[int], text: Caption, prefix: Sequence[int]) -> None:
        """Make ``slots`` continue after ``text`` and the image tokens ``prefix``, which is prefilled unless empty."""
        hidden = self._after_text[text]
        if prefix:
            image_tokens = torch.tensor(list(prefix), device=self.cache.device)
            stream = torch.cat([self._prefix(text), image_tokens[None] + self.layout.image_offset], dim=1)
            hidden = self.prior.prefill_image(stream, self.cache, slots)
            self._image_tokens[slots, : len(prefix)] = image_tokens
        self._prefilled[slots] = hidden
        self._next[slots], self._fresh[slots] = len(prefix), True

    def _prefix(self, text: Caption) -> Tensor:
        """Return the stream of a caption's text tokens, up to and including start-of-image: int64 [1, P]."""
        return self.layout.prefix(text_tensor([text], self.layout)).to(self.cache.device)

    def _feed_last_token(self) -> Tensor:
        """Feed each slot its last image token (if it has none, whatever place 0 holds); return hidden states [S, D]."""
        last = (self._next - 1).clamp(min=0)
        return self._decode(self._image_tokens.gather(1, last[:, None])[:, 0], last, self.cache)

    def _guide(self, logits: Tensor) -> Tensor:
        """Return logits float32 [S, K]; in guided slots they are combined with the unconditional twin's."""
        # Classifier-free guidance (Ho and Salimans 2022, equation 6 with s = 1 + w), of logits instead of scores:
        #     guided = unconditional + s (conditional - unconditional)
        # s = 0 ignores the caption, 1 is no guidance, more follows the caption more closely. The twin's own logits stay
        # as they are; its token is replaced by its candidate's afterwards.
        slots, twins = _slots(self._guided), _twins(self._guided)
        scale = torch.tensor([r.request.sampling.guidance for r in self._guided], device=logits.device)
        logits = logits.float()
        logits[slots] = logits[twins] + scale[:, None] * (logits[slots] - logits[twins])
        return logits

    def _filter(self, logits: Tensor) -> Tensor:
        """Return logits float32 [S, K], set to -inf where a slot's top_k or top_p rules the token out."""
        slots, settings = _slots(self._filtered), [r.request.sampling for r in self._filtered]
        top_k = torch.tensor([sampling.top_k for sampling in settings], device=logits.device)
        top_p = torch.tensor([sampling.top_p for sampling in settings], device=logits.device)
        logits = logits.float()
        logits[slots] = apply_top_k_top_p(logits[slots], self._temperatures[slots], top_k, top_p)
        return logits


def _slots_of_captions(running: Iterable[RunningCandidate]) -> dict[Caption, list[int]]:
    """Return the slots that read each caption, in order; twins read the empty caption."""
    slots_of: dict[Caption, list[int]] = defaultdict(list)
    for candidate in sorted(running, key=lambda candidate: candidate.slot):
        slots_of[candidate.request.text].append(candidate.slot)
        if candidate.twin is not None:
            slots_of[UNCONDITIONAL].append(candidate.twin)
    return dict(slots_of)


def _slots(running: Iterable[RunningCandidate]) -> list[int]:
    return [r.slot for r in running]


def _twins(running: Iterable[RunningCandidate]) -> list[int]:
    return [r.twin for r in running if r.twin is not None]


def _request_id(running: RunningCandidate) -> str:
    return running.request.id
