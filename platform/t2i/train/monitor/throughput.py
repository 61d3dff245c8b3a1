"""How fast training goes, between one line of the log and the next."""

from __future__ import annotations

from t2i.train.tasks.work import Work


class Throughput:
    """Adds up steps; :meth:`take` gives their means and begins anew. It reads no clock."""

    def __init__(self, work: Work, peak_flops: float | None) -> None:
        """``work`` of one step; ``peak_flops`` are the FLOP/s of all devices together, None if not known."""
        self._work, self._peak = work, peak_flops
        self._begin()

    def step(self, seconds: float, data_wait: float) -> None:
        """A step took ``seconds`` in all, of which ``data_wait`` were spent waiting for its batch.

        A GPU lags behind its host: the wait for it at the log's turn belongs to the seconds of a step, too.
        """
        self._steps += 1
        self._seconds += seconds
        self._data_wait += data_wait

    def take(self) -> dict[str, float]:
        """``seconds_per_step``, ``<unit>_per_second``, ``data_wait_share`` in [0, 1] and ``mfu``, as far as known.

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
