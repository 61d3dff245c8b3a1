"""Advice on a run: a sentence for each kind of trouble that its curves show.

A check gets a line of the log, or the metrics of a validation. It returns its sentence while there is trouble, "" while
there is none, and None if the values do not let it judge. :class:`Advice` decides which sentences to repeat.

The thresholds are such that our own runs, noisy as they are, get no advice (tests/t2i/train/monitor/curves.json). The
checks' memory starts empty after a restart.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from statistics import fmean, median

from t2i.train.tasks.base import Headline

Values = Mapping[str, float]
Check = Callable[[Values], str | None]

CALM_CHECKS = 10
"""How many times in a row a check must find no trouble before its sentence is given again."""

SCALE_PREFIX = "scale/"
"""Prefix of the names of the blocks' gradient scales."""


class Advice:
    """Runs all checks on every line of the log and every validation, and returns the sentences that are new."""

    def __init__(self, overfitting_metric: Headline, scale_floor: float | None = None) -> None:
        """Make all checks; ``scale_floor`` is the least value that a gradient scale can have, in fp16."""
        overfitting = Overfitting(overfitting_metric)
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
        self._calm: dict[Check, int] = {}  # of checks that have found trouble: how often in a row they since have not

    def training(self, values: Values) -> list[str]:
        """Return the new sentences on a line of the log."""
        return self._new_sentences(self._training, values)

    def validation(self, metrics: Values) -> list[str]:
        """Return the new sentences on a validation's metrics."""
        return self._new_sentences(self._validation, metrics)

    def _new_sentences(self, checks: list[Check], values: Values) -> list[str]:
        sentences = []
        for check in checks:
            sentence = check(values)
            if sentence:
                if self._calm.get(check, CALM_CHECKS) >= CALM_CHECKS:
                    sentences.append(sentence)
                self._calm[check] = 0
            elif sentence is not None and check in self._calm:
                self._calm[check] += 1
        return sentences


def not_finite(values: Values) -> str | None:
    """Report a loss or gradient that is NaN or infinite; in fp16, where such updates are skipped, a few are normal."""
    bad = [name for name in ("loss", "gradient_norm") if not math.isfinite(values.get(name, 0.0))]
    if not bad:
        return ""
    return f"{' and '.join(bad)} not finite: if this goes on, lower the learning rate or use train.precision=bf16."


def scales_at_floor(values: Values, floor: float) -> str | None:
    """Report the blocks whose gradient scale has been lowered to ``floor``, where it can fall no further."""
    scales = {name.removeprefix(SCALE_PREFIX): s for name, s in values.items() if name.startswith(SCALE_PREFIX)}
    if not scales:
        return None
    low = [name for name, scale in scales.items() if scale <= floor]
    if not low:
        return ""
    named = ", ".join(low[:3]) + (f" and {len(low) - 3} more" if len(low) > 3 else "")
    return (
        f"gradient scale at its floor in {named}: gradients overflow fp16, use train.precision=bf16 or lower task.lr."
    )


class Divergence:
    """Reports a training loss that rises again: for several lines, or to where it began in a single one."""

    RECENT, WINDOW = 5, 50
    NOISE_FACTOR = 8.0
    """How many times its usual deviation a loss has to rise: small batches lose half of the gain for a step."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=self.WINDOW)
        self._first, self._best = math.nan, math.inf

    def __call__(self, values: Values) -> str | None:
        """Compare the newest losses with the first and the best.

        ::

            first ─ x                                          x   one loss at `first` again: all of the gain is gone
                      x                                  n n n     the median of the last 5 half-way up: it diverges
                        x  x
                             x x x   x x                           best: the lowest median of 5 that was ever seen
                                   x     x x x x x x x x
                                         └── before ───┘└recent┘   of the last 50 losses

        Medians of 5, since one outlier neither moves them nor sets a best that no later loss can reach. How far the
        losses in ``before`` usually are from their median is the noise that a rise must exceed: see :meth:`_has_lost`.
        """
        loss = values.get("loss", math.nan)
        if not math.isfinite(loss):
            return None
        self._first = loss if math.isnan(self._first) else self._first
        self._losses.append(loss)
        if len(self._losses) < 2 * self.RECENT:
            return None
        before, recent = list(self._losses)[: -self.RECENT], list(self._losses)[-self.RECENT :]
        now = median(recent)
        self._best = min(self._best, median(before[-self.RECENT :]))
        if self._has_lost(0.5, now, before):
            return (
                f"loss {now:.3g} against {self._best:.3g} at its best: it may be diverging, lower the learning rate, "
                "lengthen task.warmup_steps or set task.optimizer.clip_norm."
            )
        if self._has_lost(1.0, loss, before):
            return (
                f"loss {loss:.3g} all at once, {self._best:.3g} at its best: should that come again, set "
                "task.optimizer.clip_norm or look for broken data."
            )
        return ""

    def _has_lost(self, share: float, loss: float, before: list[float]) -> bool:
        """Return whether ``loss`` has lost ``share`` of the gain since the first one, and more than noise explains."""
        # The median deviation ignores the outliers in `before`, which a standard deviation would be made of.
        noise = median(abs(x - median(before)) for x in before)
        # A run that was resumed near its end has gained next to nothing: then 1 % of the loss counts as the gain.
        gain = max(self._first - self._best, 0.01 * abs(self._best))
        # A single loss (share 1) is noisier than the median of five (share 1/2), so its bound is twice as high.
        return loss - self._best > max(share * gain, 2 * share * self.NOISE_FACTOR * noise)


class GradientExplosion:
    """Reports a gradient ten times the norm of recent ones. Slow growth over a run is normal (our dVAE's: 300-fold)."""

    FACTOR, WINDOW, MIN_NORMS = 10.0, 50, 20

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=self.WINDOW)

    def __call__(self, values: Values) -> str | None:
        """Compare the gradient's norm with the median of the recent ones."""
        norm = values.get("gradient_norm", math.nan)
        if not math.isfinite(norm):
            return None
        usual = median(self._norms) if len(self._norms) >= self.MIN_NORMS else math.inf
        self._norms.append(norm)
        if norm <= self.FACTOR * usual:
            return ""
        return (
            f"gradient norm {norm:.3g}, {norm / usual:.0f} times the usual: set task.optimizer.clip_norm near "
            f"{usual:.2g}, or lower the learning rate."
        )


class Starvation:
    """Reports that more than a fifth of the time is spent waiting for data."""

    MAX_SHARE, WINDOW = 0.2, 5

    def __init__(self) -> None:
        self._shares: deque[float] = deque(maxlen=self.WINDOW)

    def __call__(self, values: Values) -> str | None:
        """Average the share of time spent waiting over the last lines."""
        if "data_wait_share" not in values:
            return None
        self._shares.append(values["data_wait_share"])
        share = fmean(self._shares)
        if len(self._shares) < self.WINDOW or share <= self.MAX_SHARE:
            return ""
        return (
            f"{share:.0%} of the time is spent waiting for data: raise train.prefetch, give the data more CPUs, "
            "or move it to faster storage."
        )


class Slowness:
    """Reports an MFU that is very low, or much lower than before in this run, unless waiting for data explains it."""

    LOW_MFU, DROP, WINDOW = 0.03, 0.6, 10

    def __init__(self) -> None:
        self._mfus: deque[float] = deque(maxlen=self.WINDOW)
        self._best = 0.0

    def __call__(self, values: Values) -> str | None:
        """Compare the median MFU of the last lines with the best one so far."""
        if "mfu" not in values or values.get("data_wait_share", 0.0) > Starvation.MAX_SHARE:
            return None
        self._mfus.append(values["mfu"])
        if len(self._mfus) < self.WINDOW:
            return ""
        now = median(self._mfus)
        self._best = max(self._best, now)
        if now < self.DROP * self._best:
            return f"MFU {now:.1%}, {self._best:.1%} before: is other work on the machine, or is it too hot?"
        if now < self.LOW_MFU:
            return f"MFU {now:.1%}: raise train.batch_size, or try train.compile=true or train.precision=bf16."
        return ""


class CodebookCollapse:
    """Reports a dVAE that uses few of its codes, or whose perplexity has halved."""

    MIN_USED, DROP = 0.1, 0.5

    def __init__(self) -> None:
        self._best = 0.0

    def __call__(self, metrics: Values) -> str | None:
        """Judge the share of codes in use, and compare their perplexity with the best one so far."""
        if "codes_used" not in metrics or "perplexity" not in metrics:
            return None
        used, perplexity = metrics["codes_used"], metrics["perplexity"]
        self._best = max(self._best, perplexity)
        if used >= self.MIN_USED and perplexity >= self.DROP * self._best:
            return ""
        return (
            f"the codebook is collapsing, {used:.0%} of its codes used, perplexity {perplexity:.3g} ({self._best:.3g} "
            "at best): raise task.beta_start or task.beta_end, keep task.tau_end higher, or lower task.lr_start."
        )


class Overfitting:
    """Reports validations in a row that are worse than the best one, while the training loss goes on falling."""

    WORSE_BY, IN_A_ROW = 0.01, 3

    def __init__(self, headline: Headline) -> None:
        self._headline = headline
        self._losses: list[float] = []  # since the last validation
        self._loss_at_best, self._best, self._worse = math.inf, -math.inf, 0

    def training(self, values: Values) -> None:
        """Remember the loss, whose mean the next validation is judged by."""
        if math.isfinite(values.get("loss", math.nan)):
            self._losses.append(values["loss"])

    def validation(self, metrics: Values) -> str | None:
        """Compare the metric, and the mean training loss since the last validation, with the best validation's."""
        name, sign = self._headline.metric, self._headline.sign
        if name not in metrics or not self._losses:
            return None
        value, loss = sign * metrics[name], fmean(self._losses)
        self._losses = []
        if value > self._best:
            self._best, self._loss_at_best, self._worse = value, loss, 0
        worse = value < self._best - self.WORSE_BY * abs(self._best) and loss < self._loss_at_best
        self._worse = self._worse + 1 if worse else 0
        if self._worse < self.IN_A_ROW:
            return ""
        return (
            f"{name} {metrics[name]:.3g} on validation, {sign * self._best:.3g} at best, while the training loss "
            "falls: it overfits, so stop earlier, raise task.optimizer.weight_decay or train on more data."
        )
