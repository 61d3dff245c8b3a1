"""What a patient colleague would say while looking at the curves: one sentence on each trouble, once until it is over.

Every check reads what the log holds anyway and answers with its sentence while there is trouble, with "" while all is
well, and with None where it has nothing to judge by. The thresholds leave our own runs in peace, noisy as they are
(tests/t2i/train/monitor/curves.json); nothing is kept across a restart.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from statistics import fmean, median
from typing import ClassVar

Values = Mapping[str, float]
Check = Callable[[Values], str | None]

QUIET_LOOKS = 10
"""Looks in a row without trouble until the same trouble is worth another sentence."""


class Advice:
    """Feed it every line of the log and every validation; it returns the sentences that are new."""

    def __init__(self, scale_floor: float | None = None) -> None:
        """``scale_floor`` is the least that gradient scales (``scale/...``) may be, in fp16."""
        overfitting = Overfitting()
        self._training: list[Check] = [
            not_finite,
            Divergence(),
            GradientExplosion(),
            Starvation(),
            Slowness(),
            overfitting.training,
        ]
        if scale_floor is not None:
            self._training.append(lambda values: scales_at_floor(values, scale_floor))
        self._validation: list[Check] = [CodebookCollapse(), overfitting.validation]
        self._calm: dict[Check, int] = {}

    def training(self, values: Values) -> list[str]:
        """What there is to say of a line of training scalars."""
        return self._news(self._training, values)

    def validation(self, metrics: Values) -> list[str]:
        """What there is to say of a validation's metrics."""
        return self._news(self._validation, metrics)

    def _news(self, checks: list[Check], values: Values) -> list[str]:
        news = []
        for check in checks:
            said = check(values)
            if said:
                if self._calm.get(check, QUIET_LOOKS) >= QUIET_LOOKS:
                    news.append(said)
                self._calm[check] = 0
            elif said is not None and check in self._calm:
                self._calm[check] += 1
        return news


def not_finite(values: Values) -> str | None:
    """A loss or gradient without a value; scaled training skips such steps, and has them now and then."""
    bad = [name for name in ("loss", "gradient_norm") if not math.isfinite(values.get(name, 0.0))]
    if not bad:
        return ""
    return f"{' and '.join(bad)} not finite: if this goes on, lower the learning rate or use train.precision=bf16."


def scales_at_floor(values: Values, floor: float) -> str | None:
    """Gradient scales, each halved again and again, that cannot go lower."""
    low = [
        name.removeprefix("scale/") for name, scale in values.items() if name.startswith("scale/") and scale <= floor
    ]
    if not low:
        return "" if any(name.startswith("scale/") for name in values) else None
    named = ", ".join(low[:3]) + (f" and {len(low) - 3} more" if len(low) > 3 else "")
    return (
        f"gradient scale at its floor in {named}: gradients overflow fp16, use train.precision=bf16 or lower task.lr."
    )


class Divergence:
    """The loss gives back half of all it has gained, in the median of five, or all of it at once.

    Either has to be far beyond the loss's own noise: a small batch may well lose half of the gain for a step.
    """

    NOISE, RECENT, WINDOW = 8.0, 5, 50

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=self.WINDOW)
        self._first, self._best = math.nan, math.inf

    def __call__(self, values: Values) -> str | None:
        loss = values.get("loss", math.nan)
        if not math.isfinite(loss):
            return None
        self._first = loss if math.isnan(self._first) else self._first
        self._losses.append(loss)
        if len(self._losses) < 2 * self.RECENT:
            return None
        *before, _, _, _, _, _ = self._losses
        now = median(list(self._losses)[-self.RECENT :])
        self._best = min(self._best, median(before[-self.RECENT :]))
        if self._lost(now, before, share=0.5):
            return (
                f"loss {now:.3g} against {self._best:.3g} at its best: it may be diverging, lower the learning rate, "
                "lengthen task.warmup_steps or set task.optimizer.clip_norm."
            )
        if self._lost(loss, before, share=1.0):
            return (
                f"loss {loss:.3g} all at once, {self._best:.3g} at its best: should that come again, set "
                "task.optimizer.clip_norm or look for broken data."
            )
        return ""

    def _lost(self, loss: float, before: list[float], share: float) -> bool:
        """Whether ``share`` of the gain is gone, and twice that share of :data:`NOISE` median deviations."""
        noise = median(abs(x - median(before)) for x in before)
        gain = max(self._first - self._best, 0.01 * abs(self._best))
        return loss - self._best > max(share * gain, 2 * share * self.NOISE * noise)


class GradientExplosion:
    """A gradient ten times as long as the recent ones; that it grows slowly over a run is normal (our dVAE: x 300)."""

    FACTOR, WINDOW, LEAST = 10.0, 50, 20

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=self.WINDOW)

    def __call__(self, values: Values) -> str | None:
        norm = values.get("gradient_norm", math.nan)
        if not math.isfinite(norm):
            return None
        usual = median(self._norms) if len(self._norms) >= self.LEAST else math.inf
        self._norms.append(norm)
        if norm <= self.FACTOR * usual:
            return ""
        return (
            f"gradient norm {norm:.3g}, {norm / usual:.0f} times the usual: set task.optimizer.clip_norm near "
            f"{usual:.2g}, or lower the learning rate."
        )


class Starvation:
    """More than a fifth of the time goes by waiting for data."""

    SHARE, WINDOW = 0.2, 5

    def __init__(self) -> None:
        self._shares: deque[float] = deque(maxlen=self.WINDOW)

    def __call__(self, values: Values) -> str | None:
        if "data_wait_share" not in values:
            return None
        self._shares.append(values["data_wait_share"])
        share = fmean(self._shares)
        if len(self._shares) < self.WINDOW or share <= self.SHARE:
            return ""
        return (
            f"{share:.0%} of the time is spent waiting for data: raise train.prefetch, give the data more CPUs, "
            "or move it to faster storage."
        )


class Slowness:
    """MFU next to nothing, or well below what this very run has shown; not where data is what keeps it waiting."""

    LOW, DROP, WINDOW = 0.03, 0.6, 10

    def __init__(self) -> None:
        self._shares: deque[float] = deque(maxlen=self.WINDOW)
        self._best = 0.0

    def __call__(self, values: Values) -> str | None:
        if "mfu" not in values or values.get("data_wait_share", 0.0) > Starvation.SHARE:
            return None
        self._shares.append(values["mfu"])
        if len(self._shares) < self.WINDOW:
            return ""
        now = median(self._shares)
        self._best = max(self._best, now)
        if now < self.DROP * self._best:
            return f"MFU {now:.1%}, {self._best:.1%} before: is other work on the machine, or is it too hot?"
        if now < self.LOW:
            return f"MFU {now:.1%}: raise train.batch_size, or try train.compile=true or train.precision=bf16."
        return ""


class CodebookCollapse:
    """A dVAE that uses few of its codes, or only half as many as it did."""

    USED, DROP = 0.1, 0.5

    def __init__(self) -> None:
        self._best = 0.0

    def __call__(self, metrics: Values) -> str | None:
        if "codes_used" not in metrics or "perplexity" not in metrics:
            return None
        used, perplexity = metrics["codes_used"], metrics["perplexity"]
        self._best = max(self._best, perplexity)
        if used >= self.USED and perplexity >= self.DROP * self._best:
            return ""
        return (
            f"the codebook is collapsing, {used:.0%} of its codes used, perplexity {perplexity:.3g} ({self._best:.3g} "
            "at best): raise task.beta_start or task.beta_end, keep task.tau_end higher, or lower task.lr_start."
        )


class Overfitting:
    """Validations in a row worse than the best, while the training loss goes on falling."""

    WORSE, IN_A_ROW = 0.01, 3
    METRICS: ClassVar = {"nats_per_image_token": -1, "psnr": 1, "image_to_text_r1": 1}
    """The metric that stands for each task, and whether more is better."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._loss_at_best, self._best, self._worse = math.inf, -math.inf, 0

    def training(self, values: Values) -> None:
        """Remember the loss: its mean until the next validation."""
        if math.isfinite(values.get("loss", math.nan)):
            self._losses.append(values["loss"])

    def validation(self, metrics: Values) -> str | None:
        name = next((name for name in self.METRICS if name in metrics), None)
        if name is None or not self._losses:
            return None
        value, loss = self.METRICS[name] * metrics[name], fmean(self._losses)
        self._losses = []
        if value > self._best:
            self._best, self._loss_at_best, self._worse = value, loss, 0
        worse = value < self._best - self.WORSE * abs(self._best) and loss < self._loss_at_best
        self._worse = self._worse + 1 if worse else 0
        if self._worse < self.IN_A_ROW:
            return ""
        return (
            f"{name} {metrics[name]:.3g} on validation, {abs(self._best):.3g} at best, while the training loss falls: "
            "it overfits, so stop earlier, raise task.optimizer.weight_decay or train on more data."
        )
