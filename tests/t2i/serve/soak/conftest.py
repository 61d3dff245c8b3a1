"""One service for all soak tests, two replicas of everything that may have two; and the table of what was tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from t2i.client import Client, ServiceError
from tests.t2i.serve.soak.service import SoakService, two_of_each, wait_until

Note = Callable[[str, str, str], None]
TRIED = pytest.StashKey[list[tuple[str, str, str]]]()


@pytest.fixture(scope="session")
def note(request: pytest.FixtureRequest) -> Note:
    """Take down what was tried, how often, and what came of it."""
    rows = request.config.stash.setdefault(TRIED, [])
    return lambda *row: rows.append(row)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, as the README has it."""
    rows = config.stash.get(TRIED, [])
    if rows:
        terminalreporter.write_line("\n| tried | how often | what came of it |\n|---|---|---|")
    for row in rows:
        terminalreporter.write_line(f"| {' | '.join(row)} |")


@pytest.fixture(scope="package")
def soaked(
    _ray_at_the_end: None,
    run_directory: Path,
) -> Iterator[SoakService]:
    """The service, and the images that it makes before anything has happened to it."""
    from ray import serve

    from t2i.cluster import RayConfig, start_ray
    from t2i.serve.launch import free_port, launch_service

    start_ray(RayConfig(cpus=4, object_store_gb=0.5))  # room for two versions side by side
    serve.shutdown()  # one that runs keeps the proxies that it has: none
    config = two_of_each(run_directory)
    config.http_port = free_port(config)
    with launch_service(config) as address:
        service = SoakService(address, f"http://127.0.0.1:{config.http_port}", run_directory)
        wait_until(lambda: is_whole(service))
        with Client(address) as client:
            service.known.update(service.learn(client))
        yield service
    serve.shutdown()


@pytest.fixture
def service(soaked: SoakService) -> SoakService:
    """The service, whole again, whatever the test before has done to it."""
    wait_until(lambda: is_whole(soaked))
    return soaked


def is_whole(service: SoakService) -> bool:
    """Whether the service answers, and nothing of it is missing."""
    with suppress(ServiceError):
        return service.is_whole()
    return False
