"""What a larger evaluation would take: hours, cost and storage, from the seconds of a smaller one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log2

from models.settings import setting
from t2i.evaluate.receipts.costs import STAGES
from t2i.evaluate.receipts.stored import Receipt, UnusableReceiptError

SECONDS_PER_HOUR = 3600
CONTROLS = 3
"""Image sets that are measured of each real image: itself, its reconstruction, random tokens."""


@dataclass
class Speedups:
    """How many times as many images a second one GPU makes as one CPU thread: assumptions, as no GPU was at hand."""

    generate: float = setting(
        150.0, "drawing is bound by memory: 1.5 TB/s of a data-centre GPU to 10 GB/s of one CPU thread", above=0
    )
    score: float = setting(
        400.0, "decoding and CLIP are bound by arithmetic: 20 TFLOP/s in use to 50 GFLOP/s of one CPU thread", above=0
    )
    controls: float = setting(400.0, "the dVAE: as score", above=0)
    extract: float = setting(200.0, "half of score: blur and hashes stay on the CPU", above=0)


@dataclass
class PlanConfig:
    """The evaluation to plan, and what is assumed of the machines."""

    receipt: str = setting("", "receipt.json of an evaluation, whose measured seconds are scaled", path="read")
    captions: int = setting(30_000, "captions, and as many real images", at_least=1)
    candidates: int = setting(512, "images drawn per caption", at_least=1)
    training_images: int = setting(1000, "training images that are measured", at_least=0)
    gpus: list[int] = setting(lambda: [1, 8, 64], "fleets of GPUs", at_least=1)
    cores: int = setting(2, "CPU cores of the machine without a GPU", at_least=1)
    speedup: Speedups = setting(Speedups, "a GPU against one CPU thread, by stage")
    gpu_hour: float = setting(
        3.0, "price of one GPU for an hour, in any currency: about a rented H100's in USD", at_least=0
    )
    core_hour: float = setting(0.05, "price of one CPU core for an hour: about a rented one's in USD", at_least=0)


@dataclass(frozen=True)
class Fleet:
    """Machines that share all stages: ``devices`` of them, each ``speedups`` times as fast as one CPU thread."""

    name: str
    devices: int
    speedups: Mapping[str, float]
    price: float


@dataclass(frozen=True)
class Estimate:
    """What an evaluation takes on one fleet: hours by stage, and the cost of the whole fleet for all of them."""

    fleet: str
    hours: Mapping[str, float]
    cost: float

    @property
    def total(self) -> float:
        """Hours in all."""
        return sum(self.hours.values())

    @property
    def bottleneck(self) -> str:
        """The stage that takes longest."""
        return max(self.hours, key=lambda stage: self.hours[stage])


@dataclass(frozen=True)
class Plan:
    """Images and one CPU thread's seconds per image by stage; estimates by fleet; bytes by what is stored."""

    images: Mapping[str, float]
    seconds: Mapping[str, float]
    estimates: Sequence[Estimate] = field(default_factory=list)
    storage: Mapping[str, float] = field(default_factory=dict)


def image_counts(captions: int, candidates: int, training_images: int) -> dict[str, float]:
    """Return how many images each stage handles.

    Of the drawn ones the best of 1, 2, 4, ... are measured, each once. The best of 2m candidates is not that of the
    first m in one case of two, so a caption has 1 + log2(candidates) / 2 of them on average.
    """
    measured = captions * (1 + log2(candidates) / 2) + CONTROLS * captions + training_images
    drawn = captions * candidates
    return {"generate": drawn, "score": drawn, "controls": captions, "extract": measured}


def estimate(images: Mapping[str, float], seconds: Mapping[str, float], fleet: Fleet) -> Estimate:
    """Return what ``images`` by stage take on a fleet, given one CPU thread's ``seconds`` per image.

    All devices work on all stages, none waits: hours add up over the stages, and divide by the devices.
    """
    hours = {
        stage: images[stage] * seconds[stage] / fleet.speedups[stage] / fleet.devices / SECONDS_PER_HOUR
        for stage in seconds
    }
    return Estimate(fleet.name, hours, sum(hours.values()) * fleet.devices * fleet.price)


def stored_bytes(images: Mapping[str, float], captions: int, per_image: Mapping[str, float]) -> dict[str, float]:
    """Return the bytes of tokens and scores of all candidates, of the best ones' pixels, and of all features."""
    counts = {"tokens": images["generate"], "pixels": captions, "features": images["extract"]}
    return {name: counts[name] * per_image[name] for name in counts}


def plan(receipt: Receipt, config: PlanConfig) -> Plan:
    """Return what the evaluation that ``config`` describes would take, from the measured seconds in a receipt.

    Raises:
        UnusableReceiptError: it has no seconds of a stage.
    """
    circumstances = receipt.document["circumstances"]
    seconds = {stage: each["seconds"] / each["images"] for stage, each in circumstances["stages"].items()}
    if missing := [stage for stage in STAGES if stage not in seconds]:
        raise UnusableReceiptError(
            f"receipt is {receipt.uri}, which has no seconds of {missing[0]}: name one of an evaluation with images."
        )
    per_image = {name: each["bytes"] / max(each["images"], 1) for name, each in circumstances["storage"].items()}
    images = image_counts(config.captions, config.candidates, config.training_images)
    estimates = [estimate(images, seconds, fleet) for fleet in fleets(config)]
    return Plan(images, seconds, estimates, stored_bytes(images, config.captions, per_image))


def fleets(config: PlanConfig) -> list[Fleet]:
    """Return the machine without a GPU, then the fleets of GPUs."""
    cores = Fleet(f"{config.cores} cores", config.cores, dict.fromkeys(STAGES, 1.0), config.core_hour)
    speedups = {stage: getattr(config.speedup, stage) for stage in STAGES}
    return [cores, *(Fleet(f"{n} GPU{'s' * (n > 1)}", n, speedups, config.gpu_hour) for n in config.gpus)]


def plan_text(made: Plan, config: PlanConfig) -> str:
    """Return a plan as a table: stages by fleets, then totals, bottlenecks, cost and storage."""
    fleet_names = [each.fleet for each in made.estimates]
    lines = [f"{config.captions} captions x {config.candidates} candidates", ""]
    lines.append(_row("stage", "images", "s/image", *(f"h on {name}" for name in fleet_names)))
    for stage, seconds in made.seconds.items():
        hours = [f"{each.hours[stage]:.4g}" for each in made.estimates]
        lines.append(_row(stage, f"{made.images[stage]:.0f}", f"{seconds:.3g}", *hours))
    lines.append(_row("all", "", "", *(f"{each.total:.4g}" for each in made.estimates)))
    lines.append(_row("cost", "", "", *(f"{each.cost:.4g}" for each in made.estimates)))
    lines.append(_row("bottleneck", "", "", *(each.bottleneck for each in made.estimates)))
    stored = ", ".join(f"{name} {size / 1e9:.3g} GB" for name, size in made.storage.items())
    return "\n".join([*lines, "", f"stored: {stored}", *_assumptions(config)])


def _row(stage: str, images: str, seconds: str, *fleet_cells: str) -> str:
    return f"{stage:<11}{images:>12}{seconds:>10}" + "".join(f"{cell:>16}" for cell in fleet_cells)


def _assumptions(config: PlanConfig) -> list[str]:
    speedups = ", ".join(f"{stage} {getattr(config.speedup, stage):g}" for stage in STAGES)
    return [
        "seconds are those of one actor of the receipt's evaluation beside its others, without starting and figures.",
        f"assumed, not measured: a GPU is so many times as fast as it ({speedups});",
        f"a GPU costs {config.gpu_hour:g} and a core {config.core_hour:g} an hour; no device waits for another.",
    ]
