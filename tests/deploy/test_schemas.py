"""Every document is what an API server would take, as far as Kubernetes's, KubeRay's and Prometheus's schemas tell."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy import kuberay
from tests.deploy.manifests import CLUSTERS, OVERLAYS, Document, clusters, name_of, of_kind, overlay, pods

KUBERNETES = ["1.30", "1.37"]
"""The oldest and the newest version that the manifests are for."""

needs_schemas = pytest.mark.skipif(
    not kuberay.FOLDER.is_dir(),
    reason=f"KubeRay's schemas are not at {kuberay.FOLDER}: name their folder in KUBERAY_CRDS",
)


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Any:
    """kubernetes-validate reads its largest file anew for every document."""
    with pytest.MonkeyPatch.context() as patch:
        cached = functools.cache(kubernetes_validate.utils.schema_contents)
        patch.setattr(kubernetes_validate.utils, "schema_contents", cached)
        yield


@needs_schemas
@pytest.mark.parametrize("name", OVERLAYS)
def test_kuberay_takes_its_resources(name: str) -> None:
    documents = of_kind(overlay(name), *CLUSTERS)
    assert documents
    assert {name_of(each): found for each in documents if (found := kuberay.problems(each))} == {}


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_its_kinds_and_the_pods(name: str, version: str) -> None:
    documents = [each for each in overlay(name) if ".coreos.com/" not in each["apiVersion"]]
    for document in documents:
        if document["kind"] not in CLUSTERS:
            kubernetes_validate.validate(document, version, strict=True)
    for pod in pods(documents):
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **pod.template}
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", ["gpu", "spot"])
def test_the_prometheus_operator_takes_its_kinds(name: str) -> None:
    documents = of_kind(overlay(name), "PodMonitor", "PrometheusRule")
    assert len(documents) == 2
    assert [found for each in documents if (found := lost_by_the_operator(each))] == []


def lost_by_the_operator(document: Document) -> str:
    """What of a document the operator's model does not keep, as its class does not refuse unknown keys itself."""
    from cloudcoil.models.prometheus_operator import v1  # takes seconds to import

    kept = getattr(v1, document["kind"]).model_validate(document).model_dump(by_alias=True, exclude_unset=True)
    return "" if kept["spec"] == document["spec"] else f"{document['spec']} is taken for {kept['spec']}"


def misspell(documents: list[Document]) -> Document:
    (service,) = of_kind(documents, "RayService")
    container = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    container["readinesProbe"] = container.pop("readinessProbe")
    return service


def mix_conditions(documents: list[Document]) -> Document:
    (cron,) = of_kind(documents, "RayCronJob")
    cron["spec"]["jobTemplate"]["deletionStrategy"]["deletionRules"][0]["condition"]["jobDeploymentStatus"] = "Failed"
    return cron


def delete_nothing(documents: list[Document]) -> Document:
    (cron,) = of_kind(documents, "RayCronJob")
    cron["spec"]["jobTemplate"]["deletionStrategy"] = {}
    return cron


@needs_schemas
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (misspell, "'readinesProbe' was unexpected"),
        (mix_conditions, "JobStatus and JobDeploymentStatus cannot be used together"),
        (delete_nothing, "requires either BOTH onSuccess and onFailure, OR the deletionRules"),
    ],
)
def test_kuberay_refuses_what_is_wrong(spoil: Callable[[list[Document]], Document], message: str) -> None:
    assert message in "\n".join(kuberay.problems(spoil(overlay("gpu"))))


def test_kubernetes_refuses_a_misspelt_key() -> None:
    ((_, spec),) = [found for found in clusters(overlay("gpu")) if found[0]["kind"] == "RayService"]
    template = spec["headGroupSpec"]["template"]
    template["spec"]["serviceAcountName"] = template["spec"].pop("serviceAccountName")
    with pytest.raises(kubernetes_validate.ValidationError, match="serviceAcountName"):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **template}, KUBERNETES[-1], strict=True)


def test_the_prometheus_operator_loses_a_misspelt_key() -> None:
    (monitor,) = of_kind(overlay("gpu"), "PodMonitor")
    monitor["spec"]["podMetricsEndpoints"][0]["prot"] = monitor["spec"]["podMetricsEndpoints"][0].pop("port")
    assert "'prot': 'metrics'" in lost_by_the_operator(monitor)
