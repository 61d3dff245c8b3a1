"""The speed of training between one line of the log and the next."""

from __future__ import annotations

from t2i.train.tasks.base import Work


class Throughput:
    """Sums up the time of steps; :meth:`take` returns their means and starts over. The caller measures the times."""

    def __init__(self, work: Work, peak_flops: float | None) -> None:
        """Start without steps. ``work`` is one step's work; ``peak_flops`` counts all devices, None if not known."""
        self._work, self._peak = work, peak_flops
        self._begin()

    def step(self, seconds: float, data_wait: float) -> None:
        """Count a step of ``seconds`` in all, of which ``data_wait`` were spent waiting for its batch.

        A GPU computes behind its host, which waits for it only where scalars are read for the log. That wait has to be
        in ``seconds``: then the mean over the steps between two lines is right, though that of one step is not.
        """
        self._steps += 1
        self._seconds += seconds
        self._data_wait += data_wait

    def take(self) -> dict[str, float]:
        """Return the means over the steps counted since the last call, {} if there are none.

        ``seconds_per_step``, ``<unit>_per_second``, ``data_wait_share`` in [0, 1], and ``mfu`` if FLOPs and peak are
        known.

        MFU: model FLOPs per second as a share of what the devices' matrix units could do (PaLM, appendix B).
        """
        if not (self._steps and self._seconds):
            return {}
        per_step = self._seconds / self._steps
        values = {
            "seconds_per_step": per_step,
            f"{self._work.unit}_per_second": self._work.count / per_step,
            "data_wait_share": self._data_wait / self._seconds,
        }
        if self._work.flops and self._peak:
            values["mfu"] = self._work.flops / (per_step * self._peak)
        self._begin()
        return values

    def _begin(self) -> None:
        self._steps, self._seconds, self._data_wait = 0, 0.0, 0.0
