"""The measured costs of a service on one machine, and how well the model tells from them what the service does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from models.errors import UserError
from models.settings import setting
from t2i.config import load_text
from t2i.simulate.costs import ServiceCosts

BAR = 0.1
"""Part of the service's figures by which the model's may differ from them."""

HEAD = """\
# What the stages of the service cost on one machine, and the service beside its simulation there.
# Written by jobs/benchmarks/bench_simulation.py; read by jobs/simulate_service.py.
"""


@dataclass
class Check:
    """A load: what clients saw of the service, and what the model says that they would see."""

    load: str = setting("", "the load in words")
    requests: int = setting(0, "how many requests were counted", at_least=0)
    service: list[float] = setting(list, "answers a second, then seconds to 50 and 95 % of the answers", at_least=0)
    model: list[float] = setting(list, "the same of the model", at_least=0)

    @property
    def differences(self) -> list[float]:
        """By which part of the service's figures the model's differ from them."""
        return [model / service - 1 for model, service in zip(self.model, self.service, strict=True)]


@dataclass
class MeasuredService:
    """What bench_simulation.py has measured."""

    machine: str = setting("", "the machine")
    run: str = setting("", "the run whose models were served")
    cores: float = setting(2.0, "how many busy cores' work the machine does at once beside Ray", above=0)
    costs: ServiceCosts = setting(ServiceCosts, "what the parts of the service cost")
    checks: list[Check] = setting(list, "the service beside the model")

    @property
    def is_beyond(self) -> bool:
        """Whether model and service differ anywhere by more than ``BAR``."""
        return any(abs(difference) > BAR for check in self.checks for difference in check.differences)


def read_measured(path: str) -> MeasuredService:
    """Return what a file holds that :func:`write_measured` has written.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise UserError(
            f"measured is {path!r}, which cannot be read ({error.strerror}): run jobs/benchmarks/bench_simulation.py."
        ) from error
    return load_text(MeasuredService, text, path)


def write_measured(measured: MeasuredService, path: str) -> None:
    """Write what was measured."""
    Path(path).write_text(HEAD + yaml.safe_dump(_rounded(asdict(measured)), sort_keys=False))


def _rounded(value: object) -> object:
    """Return nested values whose floats have four digits, more than a measurement knows."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
