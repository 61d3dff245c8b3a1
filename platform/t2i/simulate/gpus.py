"""What the stages cost on a GPU: computed from bounds, as no GPU was measured; every assumption is a setting."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.dvae import DVAE
from models.presets import Preset
from models.prior import PriorConfig, prior_cost
from models.prior.decoding.rings import RingBuffer
from models.prior.masks import layer_kind
from models.settings import setting
from t2i.serve.auto.choice import EngineSettings, Timing, choose
from t2i.serve.auto.measure import CACHE_SHARE, CANDIDATES
from t2i.serve.auto.settle import SLOTS
from t2i.simulate.costs import BatchCosts, PriorCosts, ServiceCosts

BYTES = 2
"""Of a number in bfloat16."""

FULL = 0.9
"""Share of a GPU's memory that weights, keys and values may take."""


@dataclass
class GPU:
    """A kind of GPU as its data sheet and the market describe it."""

    name: str = setting("H200", "what it is called")
    memory_gb: float = setting(141.0, "memory in GB", above=0)
    bandwidth_tb_s: float = setting(4.8, "peak bandwidth of its memory in TB/s, of the data sheet", above=0)
    tflop_s: float = setting(989.0, "peak TFLOP/s of dense products in bfloat16, of the data sheet", above=0)
    hour: float = setting(4.0, "price of an hour, in any currency", at_least=0)


KNOWN = [
    GPU("L4", 24, 0.3, 121, 0.8),
    GPU("A100 80 GB", 80, 2.04, 312, 1.3),
    GPU("H100", 80, 3.35, 989, 3.0),
    GPU("H200", 141, 4.8, 989, 4.0),
    GPU("B200", 180, 7.7, 2250, 5.5),
]


@dataclass
class Reached:
    """Which part of what is possible is reached: measured where it could be, and assumed for GPUs."""

    bandwidth: float = setting(
        0.9, "of a data sheet's bandwidth: a plain copy on an H200 reached 4.3 of 4.8 TB/s", above=0, at_most=1
    )
    products: float = setting(0.8, "of its TFLOP/s: a large product on an H200 reached 790 of 989", above=0, at_most=1)
    prior: float = setting(
        0.27, "of the bound by these, by the engine: what it reached of the bytes on two CPU cores", above=0, at_most=1
    )
    decoder: float = setting(0.49, "of a large product, by the decoder: on two CPU cores", above=0, at_most=1)
    reranker: float = setting(0.45, "of a large product, by ViT-B/32: on two CPU cores", above=0, at_most=1)
    batch_s: float = setting(0.002, "seconds that a batch takes beside its arithmetic: a guess", at_least=0)
    rank_gflop: float = setting(8.8, "GFLOP of ViT-B/32 for an image, counted by bench_stages.py", above=0)


AT_THE_BOUND = Reached(prior=1.0, decoder=1.0, reranker=1.0, batch_s=1e-9)
"""As fast as a GPU can be, and no code is."""


@dataclass(frozen=True)
class PriorWork:
    """What a prior has to read and compute: numbers of its weights, FLOPs, values of keys and of values.

    Attributes:
        kept_values: what a slot keeps in memory.
        read_values: what a step reads of it, on average over an image.
        caption_values: what a caption keeps, and a step reads.
    """

    parameters: int
    weights: int
    token_flops: float
    prefill_flops: float
    kept_values: int
    read_values: float
    caption_values: int
    image_tokens: int

    @classmethod
    def of(cls, config: PriorConfig) -> PriorWork:
        """Return the work of a prior of these sizes."""
        cost, layout = prior_cost(config), config.layout
        kinds = Counter(layer_kind(layer, config.layers) for layer in range(config.layers))
        entries = sum(n * RingBuffer(kind, layout.grid, torch.device("cpu")).size for kind, n in kinds.items())
        weights = cost.blocks + config.codebook_size * config.width
        keys = (cost.flops_per_image_token - 2 * weights) / (4 * config.width)  # a query reads, text included
        return cls(
            parameters=cost.parameters,
            weights=weights,
            token_flops=cost.flops_per_image_token,
            prefill_flops=2 * cost.blocks * layout.prefix_length,
            kept_values=2 * config.width * entries,
            read_values=2 * config.width * (keys - config.layers * layout.prefix_length),
            caption_values=cost.kv_values_per_token * layout.prefix_length,
            image_tokens=layout.image_length,
        )


def prior_costs(work: PriorWork, gpu: GPU, reached: Reached, candidates: int, slots: int | None = None) -> PriorCosts:
    """Return what a replica of the prior costs on a GPU, for requests of so many candidates.

    By default it has the slots that the service would choose by these times (``prior.slots=auto``).
    """
    slots = slots or _chosen_slots(work, gpu, reached)
    captions = max(1, slots // candidates)
    alone, full = (step_seconds(work, slots, count, gpu, reached) for count in (0, captions))
    prefill = _seconds(BYTES * work.weights, work.prefill_flops, gpu, reached) / reached.prior
    caption = (full - alone) / captions
    return PriorCosts(slots, work.image_tokens, alone, caption_s=caption, prefill_s=prefill)


def step_seconds(work: PriorWork, slots: int, captions: int, gpu: GPU, reached: Reached) -> float:
    """Return the seconds of a step: of its arithmetic, or of reading from memory once each byte that it needs."""
    read = BYTES * (work.weights + slots * work.read_values + captions * work.caption_values)
    return _seconds(read, slots * work.token_flops, gpu, reached) / reached.prior


@dataclass(frozen=True)
class ModelWork:
    """What the models of a preset have to compute for an image."""

    prior: PriorWork
    decode_flops: float

    @classmethod
    def of(cls, preset: Preset) -> ModelWork:
        """Return the work of a preset's models."""
        return cls(PriorWork.of(preset.prior), decode_flops(preset))


def stage_costs(work: ModelWork, gpu: GPU, reached: Reached, candidates: int) -> ServiceCosts:
    """Return what replicas of the three stages cost on a GPU; the gateways' costs are left as they are by default."""
    return ServiceCosts(
        prior=prior_costs(work.prior, gpu, reached, candidates),
        decoder=_batch_costs(work.decode_flops, reached.decoder, gpu, reached),
        reranker=_batch_costs(1e9 * reached.rank_gflop, reached.reranker, gpu, reached),
    )


def fits(work: PriorWork, gpu: GPU) -> bool:
    """Return whether a GPU holds a prior's weights and the keys and values of the fewest slots."""
    return BYTES * (work.parameters + SLOTS["cuda"][0] * work.kept_values) <= FULL * 1e9 * gpu.memory_gb


def most_slots(work: PriorWork, gpu: GPU) -> int:
    """Return the most slots, of a power of two, that a GPU has memory for."""
    room = FULL * 1e9 * gpu.memory_gb / BYTES - work.parameters
    return max(slots for slots in SLOTS["cuda"] if slots * work.kept_values <= room)


def decode_flops(preset: Preset) -> int:
    """Return the FLOPs of decoding an image, counted without computing any."""
    with torch.device("meta"):
        dvae, grid = DVAE(preset.dvae), preset.prior.layout.grid
        tokens = torch.zeros((1, *grid), dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        dvae.decoder.from_tokens(tokens)
    return int(counter.get_total_flops())


def _batch_costs(flops: float, share: float, gpu: GPU, reached: Reached) -> BatchCosts:
    return BatchCosts(8, reached.batch_s, _seconds(0, flops, gpu, reached) / share)


def _seconds(read: float, flops: float, gpu: GPU, reached: Reached) -> float:
    return max(read / (1e12 * gpu.bandwidth_tb_s * reached.bandwidth), flops / (1e12 * gpu.tflop_s * reached.products))


def _chosen_slots(work: PriorWork, gpu: GPU, reached: Reached) -> int:
    """Return what the service's own code chooses, of as many slots as it tries and has memory for."""
    free = 1e9 * gpu.memory_gb - BYTES * work.parameters
    fitting = [slots for slots in SLOTS["cuda"] if slots * BYTES * work.kept_values <= free / CACHE_SHARE]
    timings = [
        Timing(EngineSettings("bfloat16", slots, 1), step_seconds(work, slots, slots // CANDIDATES, gpu, reached))
        for slots in fitting or SLOTS["cuda"][:1]
    ]
    return choose(timings).slots
