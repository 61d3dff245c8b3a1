"""The clusters that ``ray up`` makes: Ray's own check takes them, and they are closed to strangers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

ROOT = Path(__file__).resolve().parents[2]
AWS = ROOT / "deploy/ray-up/aws.yaml"


def read() -> dict[str, Any]:
    return yaml.safe_load(AWS.read_text())


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """What ``ray up`` makes of a file before it asks the cloud anything."""
    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


def workers(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    types = config["available_node_types"]
    return (types[name] for name in types if name != config["head_node_type"])


def test_ray_takes_the_file() -> None:
    config = checked(read())
    assert config["available_node_types"]["t2i.head"]["max_workers"] == 0


def test_ray_refuses_a_misspelt_key_and_too_many_workers() -> None:
    with pytest.raises(ValidationError, match="idle_timeout_minute'"):
        checked(read() | {"idle_timeout_minute": 5})
    config = read()
    config["available_node_types"]["t2i.cpu"]["min_workers"] = 100
    with pytest.raises(ValueError, match="max_workers"):
        checked(config)


def test_the_head_runs_no_work_and_workers_come_and_go_at_spot_prices() -> None:
    config = checked(read())
    assert config["available_node_types"][config["head_node_type"]]["resources"] == {"CPU": 0}
    assert config["idle_timeout_minutes"] <= 10
    assert [worker["min_workers"] for worker in workers(config)] == [0, 0]
    assert {w["node_config"]["InstanceMarketOptions"]["MarketType"] for w in workers(config)} == {"spot"}


def test_nothing_is_installed_on_a_machine_but_the_images() -> None:
    config = checked(read())
    steps = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    assert not any(config[step] for step in steps)
    images = [config["docker"]["image"], *(w["docker"]["worker_image"] for w in workers(config) if "docker" in w)]
    assert [image.rpartition("-")[2] for image in images] == ["cpu", "cuda"]
    assert not any("latest" in image for image in images)


def test_only_ssh_is_open_and_every_call_needs_the_token() -> None:
    config = checked(read())
    (rule,) = config["provider"]["security_group"]["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
    assert [each["CidrIp"].rpartition("/")[2] for each in rule["IpRanges"]] == ["32"]
    variables = dict(option.split("=", 2)[1:] for option in config["docker"]["run_options"] if "--env=" in option)
    assert variables["RAY_AUTH_MODE"] == "token"
    assert str(Path(variables["RAY_AUTH_TOKEN_PATH"]).parent) in config["file_mounts"]
    assert any("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"])
    machines = [each["node_config"] for each in config["available_node_types"].values()]
    assert all(machine["MetadataOptions"]["HttpTokens"] == "required" for machine in machines)
    assert {machine["IamInstanceProfile"]["Name"] for machine in machines} == {"t2i-head", "t2i-worker"}


@pytest.mark.parametrize("key", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_start_knows_the_options_that_it_is_given(key: str) -> None:
    command = read()[key][-1]
    assert command.startswith("ray start ")
    start.make_context("start", command.split()[2:], resilient_parsing=True)
