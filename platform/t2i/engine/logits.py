"""What a request asks of the logits before a token is drawn: guidance, top-k and top-p, for the rows of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.prior.sampling import apply_top_k_top_p
from t2i.engine.rows import Rows
from t2i.engine.scheduler import RunningCandidate


@dataclass(frozen=True)
class Guidance:
    """Rows int64 [n] of guided candidates, those of their ``twins`` in the same order, and ``scale`` float32 [n, 1]."""

    rows: Tensor
    twins: Tensor
    scale: Tensor

    @classmethod
    def of(cls, running: Sequence[RunningCandidate], rows: Rows, device: torch.device) -> Guidance | None:
        """Return the guidance of those of ``running`` that are guided; None if none is."""
        guided = [(r, r.twin) for r in running if r.twin is not None]
        if not guided:
            return None
        scale = [r.request.sampling.guidance for r, _ in guided for _ in rows.windows[r.slot]]
        return cls(
            torch.tensor(rows.of([r.slot for r, _ in guided]), device=device),
            torch.tensor(rows.of([twin for _, twin in guided]), device=device),
            torch.tensor(scale, device=device)[:, None],
        )

    def apply(self, logits: Tensor) -> Tensor:
        """Return logits float32 [S, K]; in guided rows they are combined with those of the unconditional twin."""
        # Classifier-free guidance (Ho and Salimans 2022, equation 6 with s = 1 + w), of logits instead of scores:
        #     guided = unconditional + s (conditional - unconditional)
        # s = 0 ignores the caption, 1 is no guidance, more follows the caption more closely. The twin's own logits stay
        # as they are; its token is replaced by its candidate's afterwards.
        logits = logits.float()
        logits[self.rows] = logits[self.twins] + self.scale * (logits[self.rows] - logits[self.twins])
        return logits

    def share(self, tokens: Tensor) -> None:
        """Replace the tokens [S] that twins drew by their candidates': a twin goes on with these."""
        tokens[self.twins] = tokens[self.rows]


@dataclass(frozen=True)
class Filter:
    """Rows int64 [n] of candidates with top-k or top-p, and these settings of each, [n]."""

    rows: Tensor
    top_k: Tensor
    top_p: Tensor

    @classmethod
    def of(cls, running: Sequence[RunningCandidate], rows: Rows, device: torch.device) -> Filter | None:
        """Return the filter of those of ``running`` that rule tokens out; None if none does."""
        filtered = [r for r in running if r.request.sampling.filters_tokens]
        if not filtered:
            return None
        settings = [r.request.sampling for r in filtered for _ in rows.windows[r.slot]]
        return cls(
            torch.tensor(rows.of([r.slot for r in filtered]), device=device),
            torch.tensor([each.top_k for each in settings], device=device),
            torch.tensor([each.top_p for each in settings], device=device),
        )

    def apply(self, logits: Tensor, temperatures: Tensor) -> Tensor:
        """Return logits float32 [S, K], set to -inf where a row's settings rule the token out."""
        logits = logits.float()
        logits[self.rows] = apply_top_k_top_p(logits[self.rows], temperatures[self.rows], self.top_k, self.top_p)
        return logits
