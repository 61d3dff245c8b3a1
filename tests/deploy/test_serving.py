"""The Serve configuration of a RayService is that of a file; the service's code reads it and its cluster holds it."""

from __future__ import annotations

import pytest
from ray.serve.schema import RayActorOptionsSchema

from t2i.config import ConfigError
from t2i.serve.catalog import app_of
from t2i.serve.config import GATEWAY_CPUS
from t2i.serve.room import needs
from tests.deploy.manifests import ROOT, Document, of_kind, overlay, pods
from tests.deploy.serve_config import ServedAs, serving_pods

pytestmark = pytest.mark.usefixtures("model_store")

SERVICES = {"laptop": "t2i.yaml", "gpu": "t2i-gpu.yaml", "spot": "t2i-gpu.yaml"}
"""Overlay -> the file of deploy/serve that it serves by."""


def service_of(name: str) -> Document:
    (service,) = of_kind(overlay(name), "RayService")
    return service


@pytest.mark.parametrize(("name", "file"), SERVICES.items())
def test_the_service_is_that_of_the_file(name: str, file: str) -> None:
    assert service_of(name)["spec"]["serveConfigV2"] == (ROOT / "deploy" / "serve" / file).read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_the_services_code_reads_it(name: str) -> None:
    served = ServedAs.of(service_of(name))
    applications = {each.name: each.import_path.rpartition(":")[2] for each in served.schema.applications}
    models = {app_of(model): "model" for model in served.config.model_names}
    assert applications == {"t2i": "gateway", "t2i-http": "http", **models}


def test_a_misspelt_setting_is_refused() -> None:
    service = service_of("gpu")
    service["spec"]["serveConfigV2"] = service["spec"]["serveConfigV2"].replace("gateways: 4", "gatewys: 4")
    with pytest.raises(ConfigError, match="gatewys"):
        ServedAs.of(service)


@pytest.mark.parametrize("name", ["gpu", "spot"])
def test_files_are_where_the_secrets_are_mounted(name: str) -> None:
    service = service_of(name)
    served = ServedAs.of(service)
    http = served.schema.http_options
    files = {*served.config.tls.files, served.config.keys, http.ssl_certfile, http.ssl_keyfile}
    for pod in pods([service]):
        volumes = {volume["name"]: volume["secret"]["secretName"] for volume in pod.template["spec"]["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in pod.container["volumeMounts"]}
        assert mounts == {"/etc/t2i/tls": "t2i-tls", "/etc/t2i/keys": "t2i-keys"}
        assert {file.rpartition("/")[0] for file in files if file} == mounts.keys()


def options_of(service: Document) -> dict[str, RayActorOptionsSchema]:
    """What the configuration says of deployments' actors, by the deployment's name."""
    applications = ServedAs.of(service).schema.applications
    return {each.name: each.ray_actor_options for application in applications for each in application.deployments}


@pytest.mark.parametrize("name", ["gpu", "spot"])
def test_doors_stay_on_the_nodes_that_are_made_for_them(name: str) -> None:
    service = service_of(name)
    chosen = {door: options.label_selector for door, options in options_of(service).items()}
    assert chosen == {door: {"t2i-role": "gateways"} for door in ("gateway", "quotas", "http", "images")}
    (group,) = [pod.spec for pod in pods([service]) if pod.spec.get("labels") == {"t2i-role": "gateways"}]
    assert group["minReplicas"] == group["maxReplicas"], "the autoscaler moves no gateways"


def test_doors_keep_the_cpus_that_the_code_gives_them() -> None:
    """The file repeats them, as Serve replaces all options of a deployment by those of the file."""
    cpus = {name: options.num_cpus for name, options in options_of(service_of("gpu")).items()}
    assert cpus == {"gateway": GATEWAY_CPUS, "http": GATEWAY_CPUS, "quotas": 0, "images": 0}


@pytest.mark.parametrize("name", SERVICES)
def test_the_cluster_has_room_for_what_is_always_there(name: str) -> None:
    config = ServedAs.of(service_of(name)).config
    wanted = needs(config)
    wanted["CPU"] += config.http_replicas * GATEWAY_CPUS  # the file's service has HTTP without http_port
    for resource, limit in {"CPU": "cpu", "GPU": "nvidia.com/gpu"}.items():
        room = sum(
            pod.spec["minReplicas"] * int(pod.container["resources"]["limits"].get(limit, 0))
            for pod, _ in serving_pods(overlay(name))
        )
        assert wanted[resource] <= room, resource
