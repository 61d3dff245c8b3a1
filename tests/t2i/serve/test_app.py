"""The application and its configuration, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

from models.errors import UserError
from t2i.config import ConfigError, load_config, load_mapping
from t2i.serve.app import gateway, http, model
from t2i.serve.catalog import app_of
from t2i.serve.config import NamedRun, PriorReplicaConfig, ReplicaConfig, ServeConfig
from t2i.serve.runs import version_of
from tests.kept_models import keep, promote

DEPLOYED = Path(__file__).resolve().parents[3] / "deploy" / "serve" / "t2i.yaml"


def test_the_deployed_file_builds_the_application(run_directory: Path) -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(DEPLOYED.read_text()))
    gateways, door, models = schema.applications
    assert [each.import_path for each in (gateways, door, models)] == [
        f"t2i.serve.app:{name}" for name in ("gateway", "http", "model")
    ]
    assert models.name == app_of(load_mapping(ServeConfig, gateways.args).model_names[0])
    assert isinstance(gateway(gateways.args), Application)
    assert isinstance(http(door.args), Application)
    assert isinstance(model({**models.args, "run": str(run_directory)}), Application)


def test_quotas_are_counted_where_there_are_keys(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []")
    assert quotas_of({"keys": str(tmp_path / "keys.yaml")})._bound_deployment.name == "quotas"
    assert quotas_of({}) is None
    with pytest.raises(UserError, match="keys: cannot read /none"):
        gateway({"keys": "/none"})


def quotas_of(config: dict[str, Any]) -> Any:
    """What the gateways of a configuration are told to count quotas by."""
    bound: Any = gateway(config)._bound_deployment
    return bound.init_kwargs["quotas"]


def test_models_are_named_by_their_runs_or_as_they_are_told() -> None:
    config = ServeConfig(run="s3://bucket/runs/small v2/", models=[NamedRun("big", "/runs/big")])
    assert config.runs == {"small-v2": "s3://bucket/runs/small v2/", "big": "/runs/big"}
    with pytest.raises(ValueError, match="are not all different"):
        ServeConfig(run="/runs/big", models=[NamedRun("big", "/runs/other")])
    with pytest.raises(ValueError, match="the name 'b g' is not possible"):
        NamedRun("b g", "/runs/big")


def test_a_name_in_the_model_store_is_the_model_s_and_means_a_version(run_directory: Path, other_run: Path) -> None:
    keep("named/1", run_directory)
    promote(keep("named/2", other_run))
    other = {"name": "old", "run": "models://named/1"}
    config = load_mapping(ServeConfig, {"run": "models://named", "models": [other]})
    assert config.runs == {"named": "models://named/2", "old": "models://named/1"}
    expected = [version_of(str(run)) for run in (other_run, run_directory)]
    assert [version_of(run) for run in config.runs.values()] == expected
    with pytest.raises(ConfigError, match=r"models\.run: models://named/3 is not in .*: it has named/1, named/2"):
        load_mapping(ServeConfig, {"models": [{"name": "new", "run": "models://named/3"}]})


def test_unknown_arguments_are_refused(run_directory: Path) -> None:
    with pytest.raises(ConfigError, match="slot"):
        model({"run": str(run_directory), "slot": 3})


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no tokenizer"):
        model({"run": str(tmp_path)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_candidates": -1}, "max_candidates is -1"),
        ({"port": 65536}, "port is 65536"),
        ({"prior": {"slots": 0}}, "prior.slots is 0: use at least 1"),
        ({"prior": {"parallel": "on"}}, "parallel is 'on': use 'off', 'auto' or a number from 1 to 1024"),
        ({"prior": 3}, "prior is a group of fields"),
        ({"run": "${oc.env:HOME}"}, r"/\$\{oc.env:HOME\} has no tokenizer"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model(fields)


def test_int8_is_the_priors_alone(run_directory: Path) -> None:
    model({"run": str(run_directory), "prior": {"dtype": "int8"}})
    with pytest.raises(UserError, match="dtype is 'int8': use float32 or bfloat16"):
        model({"run": str(run_directory), "decoder": {"dtype": "int8"}})


def test_a_stage_computes_in_float32_or_bfloat16(run_directory: Path) -> None:
    model({"run": str(run_directory), "decoder": {"dtype": "bfloat16"}})
    with pytest.raises(UserError, match="dtype is 'fp16': use float32 or bfloat16"):
        model({"run": str(run_directory), "reranker": {"dtype": "fp16"}})


def test_auto_is_said_of_numbers_as_of_words() -> None:
    words = [f"prior.{name}=auto" for name in ("dtype", "slots", "threads", "parallel")]
    assert load_config(ServeConfig, "serve", words).prior == PriorReplicaConfig()
    given = load_mapping(ServeConfig, {"prior": {"slots": "auto", "threads": 2}, "keys": "/auto"})
    assert (given.prior.slots, given.prior.threads, given.keys) == (None, 2, "/auto")
    with pytest.raises(ConfigError, match="max_candidates is 'auto': use a whole number"):
        load_mapping(ServeConfig, {"max_candidates": "auto"})


def test_replicas_are_fixed_or_scale_with_load() -> None:
    assert ReplicaConfig(min_replicas=2, max_replicas=2).options()["num_replicas"] == 2
    scaling = ReplicaConfig(max_replicas=3, ongoing=8).options()["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling["target_ongoing_requests"]) == (1, 3, 4)
    with pytest.raises(ValueError, match="min_replicas is 3"):
        ReplicaConfig(min_replicas=3)
