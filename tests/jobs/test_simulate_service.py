"""The job that simulates: what it prints, and what it makes of its words."""

from __future__ import annotations

import pytest

import simulate_service
from simulate_service import SimulateService, main, scenario
from t2i.config import ConfigError, load_config
from t2i.simulate.measured import read_measured

WORDS = ["load.seconds=30", "load.uncounted=5"]


def loaded(*words: str) -> SimulateService:
    return load_config(SimulateService, "simulate_service", [*WORDS, *words])


def test_it_prints_what_clients_would_see(capsys: pytest.CaptureFixture[str]) -> None:
    main(loaded("load.rate=0.5"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["answered", "refused", "expired", "failed"]
    assert "100.0%" in lines[0]
    assert lines[4].endswith(" answers a second")


def test_by_default_it_is_the_machine_that_was_measured() -> None:
    config = loaded()
    measured = read_measured(config.measured)
    given = scenario(config, measured)
    assert (given.fleet.placement, given.fleet.cores) == ("machine", measured.cores)
    assert given.costs == measured.costs
    assert given.scaling is None


def test_it_scales_from_the_priors_that_there_are() -> None:
    config = loaded("fleet.priors=2", "max_priors=6")
    scaling = scenario(config, read_measured(config.measured)).scaling
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 6)
    with pytest.raises(ConfigError, match=r"max_priors is 1: use at least fleet\.priors, which is 2"):
        loaded("fleet.priors=2", "max_priors=1")


def test_its_plan_is_a_command() -> None:
    assert [command.name for command in simulate_service.COMMANDS] == ["plan"]
