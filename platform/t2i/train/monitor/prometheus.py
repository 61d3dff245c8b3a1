"""What Prometheus reads of a run, through Ray's metrics agents: a fixed list, with the two labels ``run`` and ``task``.

Ray puts ``ray_`` before every name and adds its own labels. deploy/monitoring shows them in Grafana.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

TRAINING = {
    "loss": "training loss",
    "nats_per_text_token": "prior: nats per text token",
    "nats_per_image_token": "prior: nats per image token",
    "reconstruction": "dVAE: reconstruction, nats per sub-pixel",
    "kl": "dVAE: KL, nats per image",
    "accuracy": "CLIP: share of captions nearest to their own image in the batch",
    "gradient_norm": "norm of the gradient before clipping",
    "lr": "learning rate",
    "seconds_per_step": "seconds of one update",
    "tokens_per_second": "prior: stream tokens per second, all workers",
    "images_per_second": "dVAE: images per second, all workers",
    "pairs_per_second": "CLIP: pairs per second, all workers",
    "mfu": "model FLOPs as a share of the devices' peak",
    "data_wait_share": "share of the time spent waiting for data",
    "scale_min": "fp16: the least gradient scale of all blocks",
    "scale_max": "fp16: the greatest gradient scale of all blocks",
}
"""Scalars of the log that become the gauge ``t2i_train_<name>``."""

VALIDATION = {
    "nats_per_text_token": "prior: nats per text token",
    "nats_per_image_token": "prior: nats per image token",
    "psnr": "dVAE: PSNR of reconstructions, dB",
    "elb": "dVAE: evidence lower bound, nats per sub-pixel",
    "codes_used": "dVAE: share of the codebook in use",
    "perplexity": "dVAE: perplexity of the codebook",
    "image_to_text_r1": "CLIP: share of images whose own caption is the nearest",
    "text_to_image_r1": "CLIP: share of captions whose own image is the nearest",
}
"""Metrics that become the gauge ``t2i_validation_<name>``."""

LABELS = ("run", "task")


class PrometheusExporter:
    """Made once, in the first worker, where Ray is connected. Values of other names are left out."""

    def __init__(self, run: str, task: str) -> None:
        tags = {"run": run, "task": task}

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(name, meaning, LABELS).set_default_tags(tags)

        self._training = {name: gauge(f"t2i_train_{name}", meaning) for name, meaning in TRAINING.items()}
        self._validation = {name: gauge(f"t2i_validation_{name}", meaning) for name, meaning in VALIDATION.items()}
        self._step = gauge("t2i_train_step", "updates done")
        self._checkpoint = gauge("t2i_train_checkpoint_timestamp_seconds", "Unix time of the newest checkpoint")
        self._warnings = Counter("t2i_train_warnings", "sentences of advice", LABELS).set_default_tags(tags)

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Show a line of the log."""
        self._step.set(step)
        _set(self._training, values)

    def validation(self, metrics: Mapping[str, float]) -> None:
        """Show a validation's metrics."""
        _set(self._validation, metrics)

    def checkpoint(self) -> None:
        """A checkpoint has just been made."""
        self._checkpoint.set(time.time())

    def warning(self) -> None:
        """Advice has just been given."""
        self._warnings.inc()


def _set(gauges: Mapping[str, Gauge], values: Mapping[str, float]) -> None:
    for name in gauges.keys() & values.keys():
        gauges[name].set(values[name])
