"""Time training steps of our prior and other implementations, on one and two workers, and with and without Ray.

    python jobs/benchmarks/bench_train.py                    our prior only               (make bench)
    python jobs/benchmarks/bench_train.py peers=true         other implementations too    (make bench-peers)

Keep the results in docs/benchmarks.md, together with the line that describes the machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import ray.data
import torch
from ray.data import Dataset
from torch import Tensor, nn

from compared_prior import ComparedPrior
from harness import gemm_flops, machine, medians, seconds
from memory import peak_memory
from models.prior import PriorConfig, stream_flops
from models.settings import setting
from models.tokenizer import CaptionTokenizer
from ratios import keep
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
from t2i.data import load_columns
from t2i.train import TrainConfig, fit
from t2i.train.loader.feed import InMemorySource
from t2i.train.loop import TrainLoop
from t2i.train.parallel import Worker
from t2i.train.tasks.base import Columns
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig
from train_peers import Trainee, dalle_pytorch, ours, transformers_llama
from unreported import NullReporter

CAPTION = "a red circle beside a blue square"
ROWS = 256


@dataclass
class BenchTrain(ComparedPrior):
    """The sizes of the prior, and what to time."""

    batch: int = setting(1, "streams of a step", at_least=1)
    repeats: int = setting(5, "timings of each implementation, in turn; the median is printed", at_least=1)
    threads: int = setting(2, "CPU threads", at_least=1)
    peers: bool = setting(False, "also time the packages transformers and dalle-pytorch")
    cluster: bool = setting(True, "also time a small prior on one and two Ray workers and without Ray")
    rounds: int = setting(3, "training runs of each of these kinds, in turn", at_least=1)
    steps: int = setting(40, "steps of each of these runs", at_least=1)


def main(config: BenchTrain) -> None:
    """Print all tables."""
    torch.set_num_threads(config.threads)
    print(machine())
    compare(config)
    if config.cluster:
        compare_clusters(config)


def compare(config: BenchTrain) -> None:
    """Print the table of one training step of each implementation, timed in turn."""
    shape = config.shape
    trainees = [ours(shape, config.batch)]
    if config.peers:
        trainees += [transformers_llama(shape, config.batch), dalle_pytorch(shape, config.batch)]
    taken = medians({trainee.name: seconds(trainee.step) for trainee in trainees}, config.repeats)
    flops, peak = config.batch * stream_flops(shape).training(), gemm_flops(torch.bfloat16)
    tokens = config.batch * shape.layout.length
    keep("training step", {"a large product": flops / peak} | taken)
    print(f"\n## A step of {config.batch} x {shape.layout.length} tokens, bf16\n")
    print(f"{flops / 1e12:.2f} TFLOP under our masks; a large product runs at {peak / 1e9:.0f} GFLOP/s:")
    print(f"bound {flops / peak:.2f} s, of which ours reaches {flops / peak / taken['ours']:.2f}\n")
    print("| | parameters | s a step | tokens/s | ours is | peak memory beyond the weights |")
    print("|---|---|---|---|---|---|")
    for trainee in trainees:
        print(row(trainee, taken, tokens))


def row(trainee: Trainee, taken: Mapping[str, float], tokens: int) -> str:
    """Return one line of the table."""
    step, memory = taken[trainee.name], peak_memory(trainee.step)
    faster = step / taken["ours"]
    size = f"{trainee.parameters / 1e6:.0f} M"
    return f"| {trainee.name} | {size} | {step:.2f} | {tokens / step:.0f} | {faster:.2f} x | {memory / 1e6:.0f} MB |"


class TimedTask(PriorTask):
    """The prior's task without its pictures, which take longer than the steps that are timed."""

    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:  # noqa: ARG002 (the task's interface)
        """Return none."""
        return {}


def compare_clusters(config: BenchTrain) -> None:
    """Time the same small run in a bare loop, on one worker of Ray Train and on two, one thread each."""
    start_ray(RayConfig(cpus=2))
    sizes = PriorConfig(6, 4, text_length=32, text_vocabulary=2048, grid_height=16, grid_width=16, codebook_size=1024)
    train = TrainConfig(steps=config.steps, batch_size=8, cpus_per_worker=1, checkpoint_every=config.steps)
    with tempfile.TemporaryDirectory() as directory:
        CaptionTokenizer.train([CAPTION], 300).save(Path(directory, "tokenizer"))
        task = TimedTask(PriorTaskConfig(model=sizes), f"{directory}/tokenizer", "")
        taken: dict[str, list[float]] = {"bare loop": [], "one worker": [], "two workers": []}
        for number in range(config.rounds):
            taken["bare loop"].append(bare_loop(task, train, sizes))
            for name, workers in (("one worker", 1), ("two workers", 2)):
                run = fit(task, lambda: data(sizes), replace(train, workers=workers), f"{directory}/{number}{workers}")
                taken[name].append(run.metrics["seconds_per_step"])
    report_clusters({name: median(values) for name, values in taken.items()}, train, sizes)


def bare_loop(task: PriorTask, train: TrainConfig, sizes: PriorConfig) -> float:
    """Return the seconds per step of the run in this process, without Ray Train."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    columns = load_columns(data(sizes)[0])
    metrics = TrainLoop(task, train, InMemorySource(columns), columns, NullReporter(), Worker()).run()
    torch.set_num_threads(threads)
    return metrics["seconds_per_step"]


def data(sizes: PriorConfig) -> tuple[Dataset, Dataset]:
    """Return random image tokens under one caption, for training and for validation."""
    tokens = np.random.default_rng(0).integers(0, sizes.codebook_size, (ROWS, sizes.layout.image_length), np.int32)
    rows = [{"id": f"{i:04}", "captions": [CAPTION], "image_tokens": row} for i, row in enumerate(tokens)]
    return ray.data.from_items(rows), ray.data.from_items(rows[:8])


def report_clusters(taken: Mapping[str, float], train: TrainConfig, sizes: PriorConfig) -> None:
    """Print the table of the three ways to run, Ray's overhead, and the scaling."""
    keep("training step under Ray", taken)
    print(f"\n## Steps of {train.batch_size} x {sizes.layout.length} tokens, one thread a worker, bf16\n")
    print("| | ms a step | images/s |")
    print("|---|---|---|")
    for name, step in taken.items():
        print(f"| {name} | {1e3 * step:.0f} | {train.batch_size / step:.1f} |")
    overhead = taken["one worker"] / taken["bare loop"] - 1
    scaling = taken["one worker"] / taken["two workers"] / 2
    print(f"\nRay costs {overhead:.1%} of a step; two workers reach {scaling:.0%} of twice one worker's speed.")


if __name__ == "__main__":
    run_job(main, BenchTrain, "bench_train")
