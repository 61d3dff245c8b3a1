"""A plan: what GPUs answer, how fast, what they cost, and what a lost zone costs; written as a page with plots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from models.errors import UserError
from models.presets import PRESETS
from models.settings import setting
from t2i.simulate import plots, tables
from t2i.simulate.arrivals import Load
from t2i.simulate.fleets import GATEWAY_LOAD
from t2i.simulate.gpus import GPU, KNOWN, ModelWork, Reached, fits, stage_costs
from t2i.simulate.measured import MeasuredService, read_measured
from t2i.simulate.simulation import LostZone
from t2i.simulate.studies import (
    LARGE,
    OVERLOADED_GPUS,
    SCALED_GPUS,
    ZONE_GPUS,
    ZONE_LOST_S,
    Planned,
    Runs,
    run_studies,
    studies,
)

FOLDER = "capacity"
"""Of the plots, beside the page."""

PAPERS = tuple(name for name, preset in PRESETS.items() if preset.image_size == 256)
"""The presets of the paper's sizes."""


@dataclass
class PlanConfig:
    """The service to plan, and what is assumed of the GPUs."""

    measured: str = setting(
        "jobs/benchmarks/measured_service.yaml", "what bench_simulation.py measured on a machine", path="read"
    )
    out: str = setting("docs", "directory for capacity.md and the folder capacity with its plots", path="written")
    model: str = setting("1b", f"preset of the models: {', '.join(PAPERS)}")
    gpu: str = setting("H200", "kind of GPU of the fleets: the name of one of gpus")
    gpus: list[GPU] = setting(lambda: list(KNOWN), "kinds of GPUs that are compared")
    fleets: list[int] = setting(lambda: [1, 8, 64, 256, 1000], "numbers of GPUs", at_least=1)
    loads: list[float] = setting(
        lambda: [0.5, 0.8, 0.95], "loads, as parts of what a fleet can answer", above=0, at_most=1
    )
    candidates: int = setting(8, "images sampled for each request", at_least=1)
    keep: int = setting(2, "best images of it that are sent", at_least=1)
    deadline: float = setting(60.0, "seconds that a request may take", above=0)
    start_s: float = setting(
        120.0, "seconds until one more GPU answers, on a node that has the image: assumed", at_least=0
    )
    reached: Reached = setting(Reached, "which part of what a GPU can do is reached")
    zones: int = setting(3, "zones, one of which is lost", at_least=2)
    noticed_s: float = setting(15.0, "seconds until its replicas are taken for lost", at_least=0)
    seed: int = setting(0, "of arrivals and of all else that is random", at_least=0)

    def __post_init__(self) -> None:
        names = [gpu.name for gpu in self.gpus]
        if self.gpu not in names:
            raise ValueError(f"gpu is {self.gpu!r}: use one of gpus, {', '.join(names)}.")
        if self.model not in PAPERS:
            raise ValueError(f"model is {self.model!r}: use one of {', '.join(PAPERS)}.")

    @property
    def planned_gpu(self) -> GPU:
        """The GPU that the fleets have."""
        return next(gpu for gpu in self.gpus if gpu.name == self.gpu)


def write_plan(config: PlanConfig) -> Path:
    """Simulate all, write the page and its plots, and return the page's path.

    Raises:
        UserError: what was measured cannot be read, or the model does not fit on the GPU.
    """
    measured = read_measured(config.measured)
    planned = planned_service(config, measured)
    lost = LostZone(zones=config.zones, noticed_s=config.noticed_s)
    runs = run_studies(studies(planned, config.fleets, config.loads, lost))
    folder = Path(config.out)
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, svg in plots_of(planned, runs).items():
        (folder / FOLDER / f"{name}.svg").write_text(svg)
    page = folder / "capacity.md"
    words = words_of(planned) | tables_of(config, measured, planned, runs)
    page.write_text(_template().render(words, config=config, measured=measured, folder=FOLDER))
    return page


def planned_service(config: PlanConfig, measured: MeasuredService) -> Planned:
    """Return the service on the planned GPU, with gateways as they were measured.

    Raises:
        UserError: the model does not fit on the GPU.
    """
    work = ModelWork.of(PRESETS[config.model])
    if not fits(work.prior, config.planned_gpu):
        raise UserError(f"gpu is {config.gpu}, which has too little memory for the model {config.model}: use another.")
    costs = stage_costs(work, config.planned_gpu, config.reached, config.candidates)
    costs = replace(costs, gateway=measured.costs.gateway, start_s=config.start_s)
    return Planned(costs, Load(candidates=config.candidates, keep=config.keep, deadline=config.deadline), config.seed)


def plots_of(planned: Planned, runs: Runs) -> dict[str, str]:
    """Return the plots as SVG, by their names."""
    candidates = planned.request.candidates
    return {
        "throughput": plots.throughput(runs["fleets"], candidates),
        "overload": plots.overload(runs["overload"], candidates),
        "splits": plots.splits(runs["splits"], planned),
        "zone": plots.lost_zone(runs["zone"]),
        "scaling": plots.scaling(runs["scaling"], planned),
    }


def tables_of(config: PlanConfig, measured: MeasuredService, planned: Planned, runs: Runs) -> dict[str, str]:
    """Return the page's tables in Markdown."""
    works = {name: ModelWork.of(PRESETS[name]) for name in PAPERS}
    by_gpu = [(config.model, works[config.model], gpu) for gpu in config.gpus]
    by_model = [(name, work, config.planned_gpu) for name, work in works.items()]
    return {
        "costs": tables.measured_costs(measured),
        "checks": tables.checks(measured),
        "kinds": tables.kinds(config.gpus),
        "by_gpu": tables.stages(by_gpu, config.reached, config.candidates),
        "by_model": tables.stages(by_model, config.reached, config.candidates),
        "fleets": tables.fleets(runs["fleets"], planned),
        "zone": tables.lost_zone(runs["zone"]),
        "scaling": tables.scaling(runs["scaling"]),
    }


def words_of(planned: Planned) -> dict[str, float]:
    """Return the numbers in the page's sentences."""
    gateway, request = planned.costs.gateway, planned.request
    return {
        "gateway_load": GATEWAY_LOAD,
        "gateway_s": planned.work.gateway,
        "progress_s": planned.work.gateway - gateway.request_s - request.keep * gateway.image_s,
        "overloaded": OVERLOADED_GPUS,
        "zone_gpus": ZONE_GPUS,
        "lost_at": ZONE_LOST_S,
        "scaled": SCALED_GPUS,
        "large": LARGE,
    }


def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("capacity.md.j2")
