from __future__ import annotations

import time

import pytest
import torch

from models.dvae import DVAEConfig, dvae_flops
from models.prior import PriorConfig, stream_flops
from models.reranker import CLIPConfig, clip_training_flops
from t2i.train.monitor.peak_flops import measured_peak, peak_by_name, peak_flops
from t2i.train.monitor.throughput import Throughput
from t2i.train.tasks.base import Work
from t2i.train.tasks.clip import CLIPTask, CLIPTaskConfig
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig

PRIOR = PriorConfig(3, 2, 8, text_length=6, text_vocabulary=20, grid_height=4, grid_width=4, codebook_size=16)


def test_means_over_the_steps_since_they_were_last_taken() -> None:
    throughput = Throughput(Work(300, "tokens", flops=60.0), peak_flops=100.0)
    throughput.step(1.0, 0.0)
    throughput.step(3.0, 1.0)
    assert throughput.take() == {
        "seconds_per_step": 2.0,
        "tokens_per_second": 150.0,
        "data_wait_share": 0.25,
        "mfu": 0.3,
    }
    assert throughput.take() == {}
    throughput.step(0.5, 0.5)
    assert throughput.take()["data_wait_share"] == 1.0


@pytest.mark.parametrize(("flops", "peak"), [(None, 100.0), (60.0, None)])
def test_without_flops_or_peak_there_is_no_mfu(flops: float | None, peak: float | None) -> None:
    throughput = Throughput(Work(8, "images", flops), peak)
    throughput.step(1.0, 0.0)
    assert set(throughput.take()) == {"seconds_per_step", "images_per_second", "data_wait_share"}


def test_the_work_of_each_task() -> None:
    clip, dvae = CLIPConfig(width=16, hidden=24), DVAEConfig(8, groups=2, codebook_size=8)
    stream = stream_flops(PRIOR)
    prior = PriorTask(PriorTaskConfig(PRIOR), tokenizer="", dvae="")
    assert prior.work(4) == Work(4 * (8 + 15), "tokens", 4 * stream.training())
    recomputed = prior.work(4, recomputed=True)
    assert recomputed.flops == 4 * (3 * stream.forward + stream.weights + stream.attention)
    expected = Work(4, "images", 4 * dvae_flops(dvae, 32).training)
    assert DVAETask(DVAETaskConfig(dvae, image_size=32)).work(4) == expected
    assert CLIPTask(CLIPTaskConfig(clip), image_size=32).work(4) == Work(4, "pairs", clip_training_flops(clip, 4))


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA H100 80GB HBM3", "fp16", 989.5e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA H100 NVL", "bf16", 835e12),
        ("NVIDIA L4", "bf16", 121e12),
        ("NVIDIA L40S", "fp32", 91.6e12),
        ("NVIDIA A10", "fp16", 125e12),
        ("NVIDIA A10G", "fp16", None),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2e12),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("Tesla V100-PCIE-16GB", "fp16", 112e12),
    ],
)
def test_gpus_are_known_by_the_words_of_their_names(name: str, precision: str, peak: float | None) -> None:
    assert peak_by_name(name, precision) == peak


def test_a_cpu_is_measured_once_and_soon() -> None:
    torch.set_num_threads(1)
    measured_peak.cache_clear()
    begun = time.process_time()
    peak = peak_flops(torch.device("cpu"), "fp32")
    assert time.process_time() - begun < 0.3
    assert 1e9 < peak < 1e13
    assert peak_flops(torch.device("cpu"), "fp32") == peak


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_gpu_measures_no_more_than_its_data_sheet_says(precision: str) -> None:
    device = torch.device("cuda:0")
    assert 0.1 < measured_peak(str(device), precision, 1) / peak_flops(device, precision) < 1.1
