"""What one replica of a stage does."""

from __future__ import annotations

from ray import serve

from t2i.serve.catalog import model_of
from t2i.serve.monitoring import declared as metrics
from t2i.serve.monitoring.recorder import observe


class StageMonitor:
    """Measures a replica of ``stage`` (prior, decoder or reranker), of the model whose application it belongs to."""

    def __init__(self, stage: str) -> None:
        self._model = model_of(serve.get_replica_context().app_name)
        self._labels = {"model": self._model, "stage": stage}
        self._used = -1

    def waited(self, seconds: float) -> None:
        """Note how long something waited until work on it began."""
        observe(metrics.QUEUE_SECONDS, seconds, **self._labels)

    def computed(self, seconds: float) -> None:
        """Note how long one computation took."""
        observe(metrics.COMPUTE_SECONDS, seconds, **self._labels)

    def slots(self, used: int, total: int) -> None:
        """Note how many slots of the engine are in use; costs nothing as long as they are the same."""
        if used != self._used:
            observe(metrics.SLOTS_USED, used, model=self._model)
            observe(metrics.SLOTS, total, model=self._model)
        self._used = used
