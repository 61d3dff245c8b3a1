"""Which Ray is joined, what is sent there, and what is said if there is none."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray
from ray._private.runtime_env.packaging import _dir_travel
from ray.exceptions import AuthenticationError, RpcError

from models.errors import UserError
from t2i import cluster
from t2i.cluster import RayConfig, runtime_env, start_ray
from t2i.config import ROOT


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no Ray ran in this process, and none was started."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_OVERRIDE_JOB_RUNTIME_ENV", "")
    for name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR", "PYTHONPATH", *cluster.STORES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def mute() -> Iterator[str]:
    """An address where something listens that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def guarded() -> Iterator[str]:
    """The address of a server that answers as a head does where a token is missing."""

    def refuse(_: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: Authentication token is missing")

    service, method = cluster.FIRST_QUESTION.split("/")[1:]
    handlers = {method: grpc.unary_unary_rpc_method_handler(refuse)}
    server = grpc.server(ThreadPoolExecutor(1), [grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_a_cluster_that_asks_for_a_token_says_so(guarded: str) -> None:
    with pytest.raises(UserError) as caught:
        start_ray(RayConfig(address=guarded))
    assert str(caught.value).startswith(f"Ray at {guarded} asks for a token, and has refused this one or none: ")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "http://127.0.0.1:8265",
            "a dashboard's address, which is for RAY_API_SERVER_ADDRESS: use the head's host:port",
        ),
        ("https://ray.example.com", "a dashboard's address"),
        ("{nobody}", "where no Ray answers (unavailable): correct or unset it."),
        ("{mute}", "where no Ray answers (deadline exceeded): correct or unset it."),
        ("ray.invalid:6379", "where no Ray answers (unavailable)"),
        ("127.0.0.1:six", "where no Ray answers (unavailable)"),
    ],
)
@pytest.mark.parametrize("name", ["RAY_ADDRESS", "ray.address"])
def test_an_address_without_ray_is_named(
    nobody: str, mute: str, monkeypatch: pytest.MonkeyPatch, name: str, address: str, message: str
) -> None:
    address = address.format(nobody=nobody, mute=mute)
    monkeypatch.setattr(cluster, "ANSWER_S", 0.5 if address == mute else 10.0)
    if name == "RAY_ADDRESS":
        monkeypatch.setenv(name, address)
    with pytest.raises(UserError) as caught:
        start_ray(RayConfig(address=address if name == "ray.address" else None))
    assert str(caught.value).startswith(f"{name} is {address}, ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AuthenticationError("401"), "Ray at auto asks for a token, and has refused this one or none: put what"),
        (RpcError("Timed out while waiting for GCS.\nmore"), "Ray could not join it (Timed out while waiting for GCS)"),
        (ConnectionError("Could not find any running Ray instance."), "Ray could not join it (Could not find any"),
    ],
)
def test_what_ray_refuses_is_one_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def refuse(**_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError) as caught:
        start_ray(RayConfig(address="auto"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def submitted(monkeypatch: pytest.MonkeyPatch, **environment: Any) -> None:
    """As if this process were the driver of a job that was submitted with this runtime environment."""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": environment}))


def test_workers_of_a_local_ray_or_an_image_read_the_code_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    in_place = {"env_vars": {"PYTHONPATH": f"{ROOT}/platform:{ROOT}"}}
    assert runtime_env(joins=False) == in_place
    submitted(monkeypatch)
    assert runtime_env(joins=True) == in_place


def test_a_checkout_is_uploaded_to_a_cluster_that_is_joined() -> None:
    environment = runtime_env(joins=True)
    assert environment.pop("excludes") == ["/jobs/datasets", "/models/trained"]
    assert environment == {"working_dir": str(ROOT), "env_vars": {"PYTHONPATH": "platform:."}}


def test_a_submitted_directory_is_the_code_of_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "working_dir_files" / "_ray_pkg_1"
    (copy / "platform" / "t2i").mkdir(parents=True)
    monkeypatch.setattr(cluster, "ROOT", copy)
    submitted(monkeypatch, working_dir="gcs://_ray_pkg_1.zip")
    assert runtime_env(joins=True) == {"env_vars": {"PYTHONPATH": "platform:."}}


def test_an_installed_package_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ROOT", tmp_path)
    assert runtime_env(joins=True) == runtime_env(joins=False) == {}


@pytest.mark.parametrize("joins", [False, True])
def test_workers_are_told_where_stores_are_and_no_secret(monkeypatch: pytest.MonkeyPatch, joins: bool) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "secret")
    for name in ("HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "T2I_KEY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:8333")
    environment = runtime_env(joins)
    assert environment["env_vars"].keys() == {"PYTHONPATH", "AWS_ENDPOINT_URL"}
    assert "secret" not in json.dumps(environment)


@pytest.mark.parametrize("joins", [False, True])
def test_the_submitters_own_modules_stay_on_the_path(monkeypatch: pytest.MonkeyPatch, joins: bool) -> None:
    monkeypatch.setenv("PYTHONPATH", "/their/modules:platform")
    path = runtime_env(joins)["env_vars"]["PYTHONPATH"].split(":")
    assert path[0].endswith("platform")
    assert "/their/modules" in path
    assert len(set(path)) == len(path)


def test_only_the_code_and_its_own_data_are_uploaded(tmp_path: Path) -> None:
    kept = ["jobs/train.py", "jobs/configs/train/tiny.yaml", "jobs/datasets/emoji64/val.parquet", "platform/t2i/a.py"]
    kept += ["models/prior/a.c", "models/trained/small/prior/model/weights.safetensors"]
    left = [
        "coco.zip",
        "photos/1.jpg",
        ".git/objects/a",
        ".venv/bin/python",
        "runs/tiny/model",
        "jobs/datasets/coco/a.jpg",
    ]
    left += ["models/trained/mine/weights.safetensors", "README.md"]
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / ".rayignore", tmp_path)
    found: list[str] = []
    _dir_travel(tmp_path, [], lambda path: found.append(str(path.relative_to(tmp_path))), include_gitignore=True)
    assert sorted(name for name in found if (tmp_path / name).is_file()) == sorted(kept)


def test_a_local_ray_without_its_token_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise AuthenticationError("RAY_AUTH_TOKEN_PATH is set but the file cannot be opened")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError, match=r"^Ray at local asks for a token, and has refused this one or none: put what"):
        start_ray(RayConfig())


@pytest.mark.parametrize("failures", [1, 2])
def test_a_busy_machine_has_two_tries(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    starts: list[str] = []

    def start(address: str, **_: Any) -> None:
        starts.append(address)
        if len(starts) <= failures:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(cluster, "exit_when_lost", lambda: None)
    if failures == 1:
        start_ray(RayConfig())
    else:
        with pytest.raises(UserError, match=r"^Ray did not start in time, twice: end what keeps this machine busy"):
            start_ray(RayConfig())
    assert starts == ["local", "local"]
