"""How a task is trained: for how long, on how many workers, how precisely, and what is saved and shown."""

from __future__ import annotations

from dataclasses import dataclass

from models.settings import setting
from t2i.train.monitor.trackers import TrackerConfig
from t2i.train.optim.plateau import PlateauConfig

PRECISIONS = ("bf16", "fp16", "fp32")
PARALLEL = ("ddp", "fsdp", "hybrid")


@dataclass
class TrainConfig(TrackerConfig):
    """How long to train, on how many workers, how precisely, and what to save and show."""

    steps: int = setting(1000, "number of updates; raise it later to train on", at_least=1)
    batch_size: int = setting(64, "images of one update, over all workers", at_least=1)
    accumulate: int = setting(
        1, "microbatches that each worker cuts its rows of an update into, to save memory", at_least=1
    )
    start_from: str | None = setting(
        None, "model directory whose weights a new run begins with; empty: random ones", path="read"
    )
    seed: int = setting(0, "seed of the initial weights, the order of the data and all noise", at_least=0)
    precision: str = setting("bf16", "bf16, fp16 or fp32 for activations; weights and optimizer stay fp32")
    compile: bool = setting(False, "compile the model's forward with torch.compile")
    recompute: bool = setting(
        False, "keep no activations inside residual blocks: compute them again in the backward pass"
    )
    workers: int = setting(1, "data-parallel worker processes", at_least=1)
    min_workers: int | None = setting(
        None, "after a failure, train on with at least these until others are back; empty: wait for all", at_least=1
    )
    parallel: str = setting(
        "ddp", "ddp: a whole model on each worker; fsdp: one sharded over all; hybrid: one in each node"
    )
    powersgd_rank: int = setting(
        0, "compress gradients between ddp workers to matrix products of this rank; 0: do not", at_least=0
    )
    cpus_per_worker: int | None = setting(None, "cores of one worker; empty: share all cores out evenly", at_least=1)
    gpus_per_worker: int | None = setting(
        None,
        "1: each worker has a GPU, and waits for it if an autoscaler has to bring it; 0: none; empty: whether the "
        "cluster has one for each when training begins",
        at_least=0,
        at_most=1,
    )
    prefetch: int = setting(2, "updates whose microbatches are made ahead of time; 0: none", at_least=0)
    window_rows: int = setting(
        65_536, "images, or their tokens, that are shuffled together and held in memory at once", at_least=1
    )
    log_every: int = setting(10, "steps between scalars in the log", at_least=1)
    validate_every: int = setting(500, "steps between validations", at_least=1)
    validation_batch_size: int = setting(128, "images of one batch in validation", at_least=1)
    checkpoint_every: int = setting(500, "steps between checkpoints", at_least=1)
    keep_checkpoints: int = setting(2, "how many of the newest checkpoints to keep", at_least=1)
    plateau: PlateauConfig = setting(PlateauConfig, "halving of the learning rate at plateaus of the loss")
    max_failures: int = setting(100, "lost workers after which the job gives up", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choices()
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"train.min_workers is {self.min_workers}: use 1 to train.workers, {self.workers}.")
        for workers in range(self.min_workers or self.workers, self.workers + 1):
            if self.batch_size % (workers * self.accumulate):
                divisor = f"{workers} workers x {self.accumulate} (train.accumulate)"
                raise ValueError(f"train.batch_size is {self.batch_size}: use a multiple of {divisor}.")

    def _check_choices(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"train.precision is {self.precision!r}: use {', '.join(PRECISIONS)}.")
        if self.parallel not in PARALLEL:
            raise ValueError(f"train.parallel is {self.parallel!r}: use {', '.join(PARALLEL)}.")
        if self.powersgd_rank and self.parallel != "ddp":
            raise ValueError(f"train.powersgd_rank is {self.powersgd_rank}: use train.parallel=ddp with it.")
