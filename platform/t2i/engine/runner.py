"""The tensors of the engine: the prior, its KV cache, and the state of every slot.

Shapes never change: a prefill is always of one caption, a decode step always of S rows; what nobody needs is computed
and never read. A candidate's arithmetic is then the same whatever runs beside it, which the seed contract needs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from models.prior import Prior, text_tensor
from models.prior.decoding.shared_text import Caption
from models.prior.sampling import noise_keys, sample
from models.processor import reuse_only_code_for_this_processor
from t2i.engine.logits import Filter, Guidance
from t2i.engine.rows import Rows, draft_source, windows
from t2i.engine.scheduler import UNCONDITIONAL, RunningCandidate
from t2i.logs import get_logger

logger = get_logger("engine")


class Runner:
    """Prefills captions and makes image tokens in every slot per decode step, up to ``window`` of each."""

    def __init__(self, prior: Prior, slots: int, captions: int, window: int = 1) -> None:
        self.prior = prior.eval()
        self.layout = prior.layout
        self.cache = prior.new_cache(slots, captions, window)
        device = self.cache.device
        self._decode = self.prior.decode
        self._after_text: dict[Caption, Tensor] = {}  # hidden state [D] at start-of-image, of each caption held
        self._image_tokens = torch.zeros(slots, self.layout.image_length, dtype=torch.long, device=device)
        self._next = torch.zeros(slots, dtype=torch.long, device=device)  # position of the next image token
        self._last = torch.zeros(slots, dtype=torch.long, device=device)  # the last position drawn, rightly or not
        self._fresh = torch.zeros(slots, dtype=torch.bool, device=device)  # the next step uses _prefilled, see decode
        self._prefilled = torch.zeros(slots, prior.config.width, device=device, dtype=self.cache.dtype)
        self._keys = torch.zeros(slots, dtype=torch.long, device=device)  # of the sampling noise
        self._temperatures = torch.ones(slots, device=device)
        self._running: Sequence[RunningCandidate] = ()
        self._drafts: Sequence[int] = ()
        with torch.inference_mode():  # as all later rows: a compiled step would be compiled once more for them
            self._rows = Rows({}, slots, device)
        self._guidance: Guidance | None = None
        self._filter: Filter | None = None

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
                self._feed()
            logger.info("compiled the decoding step in %.0f s", time.perf_counter() - begin)
        except Exception as error:  # a compiler raises nearly anything
            logger.warning("the decode step could not be compiled, it runs as it is: %s", str(error).splitlines()[0])
            self._decode = self.prior.decode

    @torch.inference_mode()
    def assign(
        self,
        admitted: Sequence[RunningCandidate],
        running: Sequence[RunningCandidate],
        drafts: Sequence[int],
        idle: Sequence[int],
    ) -> None:
        """Prepare the next decode step: ``running`` are all that take part, ``admitted`` the new ones among them.

        Each of ``running`` has so many of ``drafts``, for which rows of the ``idle`` slots are used.
        """
        if (running, drafts) == (self._running, self._drafts):
            return
        # The KV cache of text holds each caption once, for all rows that read it. Captions that nobody reads any more
        # are evicted first, as the new ones may need their places. New captions are prefilled one by one, never as a
        # batch: in a batch the rounding of one would depend on how many others happen to arrive at the same step.
        slots_of = _slots_of_captions(running)
        self.cache.text.evict(slots_of)
        for caption in slots_of:
            if caption not in self.cache.text:
                self._after_text[caption] = self.prior.prefill_text(self._prefix(caption), self.cache, caption)
        self._after_text = {caption: self._after_text[caption] for caption in slots_of}
        for _, group in groupby(sorted(admitted, key=_request_id), key=_request_id):
            self._start(list(group))
        self._running, self._drafts = running, drafts
        self._rows = rows = Rows(windows(running, drafts, idle), len(self._next), self.cache.device)
        self.cache.text.assign({caption: rows.of(slots) for caption, slots in slots_of.items()})
        self._guidance = Guidance.of(running, rows, self.cache.device)
        self._filter = Filter.of(running, rows, self.cache.device)

    @torch.inference_mode()
    def decode(self) -> Mapping[int, int]:
        """Make the next image tokens in every slot; return how many there are, by slot, where tokens were drafted."""
        # A slot that started just now is fresh: the hidden state for its next token comes from its prefill, after
        # start-of-image or after the prefix's last token. It is fed a token all the same, as the shape is fixed. What
        # that computes is not used, and what it writes to the cache does no harm: with a prefix it feeds the last token
        # again, to the same place; without one it feeds what is left in place 0, which the next step overwrites.
        rows = self._rows
        fed, hidden = self._feed()
        hidden = torch.where(self._fresh[:, None], self._prefilled, hidden)  # [S, D]
        logits = self.prior.image_logits(hidden)  # [S, K]
        if self._guidance:
            logits = self._guidance.apply(logits)
        temperatures = self._temperatures[rows.slots]
        if self._filter:
            logits = self._filter.apply(logits, temperatures)
        positions = self._next[rows.slots] + rows.places
        drawn = sample(logits, self._keys[rows.slots], positions, temperatures)  # [S]
        if self._guidance:
            self._guidance.share(drawn)
        self._image_tokens[rows.slots, positions] = drawn
        self._fresh.fill_(False)
        return self._advance(fed, drawn, positions)

    def image_tokens(self, running: Sequence[RunningCandidate]) -> np.ndarray:
        """Return the image tokens int32 [n, N] of each of ``running``; arbitrary ones where it has none yet."""
        if not running:  # as at most steps, where copying from the device would only wait
            return np.empty((0, self.layout.image_length), np.int32)
        return self._image_tokens[[r.slot for r in running]].to("cpu", torch.int32).numpy()

    def _advance(self, fed: Tensor, drawn: Tensor, positions: Tensor) -> dict[int, int]:
        """Move every slot on by the tokens that are right, one or more; return :meth:`decode`'s result."""
        # What was drawn after a wrong draft stays in its place as a draft of the next step.
        rows = self._rows
        accepted: dict[int, int] = {}
        if rows.has_drafts:
            self._last.scatter_reduce_(0, rows.slots, positions, "amax")
            more = rows.accepted(fed, drawn)
            accepted = dict(zip(rows.drafting, more.tolist(), strict=True))
            self._next[rows.drafting] += more - 1
        self._next = (self._next + 1).clamp(max=self.layout.image_length - 1)  # idle slots stay at the last position
        return accepted

    def _start(self, admitted: Sequence[RunningCandidate]) -> None:
        """Set up the slots of candidates of one request, and of their twins."""
        request, device = admitted[0].request, self.cache.device
        slots = [r.slot for r in admitted]
        twins = [r.twin for r in admitted if r.twin is not None]
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
        self._next[slots], self._last[slots], self._fresh[slots] = len(prefix), 0, True

    def _prefix(self, text: Caption) -> Tensor:
        """Return the stream of a caption's text tokens, up to and including start-of-image: int64 [1, P]."""
        return self.layout.prefix(text_tensor([text], self.layout)).to(self.cache.device)

    def _feed(self) -> tuple[Tensor, Tensor]:
        """Feed each row its token, the slot's last one or a draft; return the tokens [S] and hidden states [S, D].

        A slot that has no token is fed whatever place 0 holds.
        """
        rows = self._rows
        positions = source = (self._next[rows.slots] + rows.places - 1).clamp(min=0)
        if rows.has_drafts:
            last = torch.maximum(self._last, self._next - 1)[rows.slots]
            source = draft_source(positions, last, self.layout.grid[1])
        fed = self._image_tokens[rows.slots, source]
        return fed, self._decode(fed, positions, rows.slots, self.cache)


def _slots_of_captions(running: Iterable[RunningCandidate]) -> dict[Caption, list[int]]:
    """Return the slots that read each caption, in order; twins read the empty caption."""
    slots_of: dict[Caption, list[int]] = defaultdict(list)
    for candidate in sorted(running, key=lambda candidate: candidate.slot):
        slots_of[candidate.request.text].append(candidate.slot)
        if candidate.twin is not None:
            slots_of[UNCONDITIONAL].append(candidate.twin)
    return dict(slots_of)


def _request_id(running: RunningCandidate) -> str:
    return running.request.id
