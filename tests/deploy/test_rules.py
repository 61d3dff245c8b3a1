"""Every overlay keeps this project's rules, and every rule can be broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.deploy import rules_beside, rules_of_clusters, rules_of_pods
from tests.deploy.manifests import OVERLAYS, Document, Pod, clusters, of_kind, overlay, pods

pytestmark = pytest.mark.usefixtures("model_store")

Rule = Callable[[Sequence[Document]], Iterator[str]]
RULES: list[Rule] = [
    rules_of_pods.images_are_pinned,
    rules_of_pods.resources_are_set,
    rules_of_pods.nothing_is_privileged,
    rules_of_pods.every_node_is_probed,
    rules_of_clusters.ready_means_a_gateway_answers,
    rules_of_clusters.the_service_has_its_ports,
    rules_beside.secrets_are_elsewhere,
    rules_of_clusters.nodes_ask_for_a_token,
    rules_of_pods.pods_have_no_rights,
    rules_of_clusters.clusters_scale,
    rules_of_pods.labels_are_kuberays,
    rules_of_clusters.heads_come_back_from_rocksdb,
    rules_of_clusters.drains_are_awaited,
    rules_beside.budgets_can_be_kept,
    rules_of_clusters.names_are_short,
    rules_of_clusters.jobs_clean_up,
]
WHOLE_RULES: list[Rule] = [
    rules_of_pods.what_is_named_is_there,
    rules_beside.networks_are_closed,
    rules_beside.monitors_find_their_ports,
]
"""Rules of an overlay with its jobs: the jobs need what the overlay has made before."""


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_overlays_keep_the_rules(name: str, rule: Rule) -> None:
    assert list(rule(overlay(name))) == []


@pytest.mark.parametrize("name", [name for name in OVERLAYS if not name.endswith("/jobs")])
@pytest.mark.parametrize("rule", WHOLE_RULES, ids=lambda rule: rule.__name__)
def test_overlays_with_their_jobs_keep_the_rules(name: str, rule: Rule) -> None:
    assert list(rule([*overlay(name), *overlay(f"{name}/jobs")])) == []


def of(documents: list[Document], kind: str, name: str = "") -> Document:
    """The document of a kind, of those with a name, if given."""
    (found,) = [each for each in of_kind(documents, kind) if name in ("", each["metadata"]["name"])]
    return found


def pod(documents: list[Document], kind: str, group: str) -> Pod:
    return next(each for each in pods(of_kind(documents, kind)) if each.group == group)


def worker(documents: list[Document]) -> Pod:
    """A worker of the service, with a gateway."""
    return pod(documents, "RayService", "gateways")


def cluster(documents: list[Document]) -> Document:
    return next(spec for document, spec in clusters(documents) if document["kind"] == "RayCluster")


def serve_config(documents: list[Document], old: str, new: str) -> None:
    spec = of(documents, "RayService")["spec"]
    assert old in spec["serveConfigV2"]
    spec["serveConfigV2"] = spec["serveConfigV2"].replace(old, new)


def job(documents: list[Document]) -> Document:
    spec: Document = of(documents, "RayCronJob")["spec"]["jobTemplate"]
    return spec


BROKEN: list[tuple[Rule, Callable[[list[Document]], Any], str]] = [
    (
        rules_of_pods.images_are_pinned,
        lambda all_: worker(all_).container.update(image="ghcr.io/example/t2i:latest"),
        "t2i:latest is not pinned",
    ),
    (rules_of_pods.images_are_pinned, lambda all_: worker(all_).container.update(image="t2i"), "t2i is not pinned"),
    (
        rules_of_pods.resources_are_set,
        lambda all_: worker(all_).container["resources"]["limits"].pop("memory"),
        "gateways: no limits of memory",
    ),
    (
        rules_of_pods.resources_are_set,
        lambda all_: cluster(all_)["autoscalerOptions"].pop("resources"),
        "RayCluster t2i autoscaler: no requests of cpu and memory",
    ),
    (
        rules_of_pods.nothing_is_privileged,
        lambda all_: worker(all_).template["spec"]["securityContext"].pop("runAsNonRoot"),
        "gateways may run as root",
    ),
    (
        rules_of_pods.nothing_is_privileged,
        lambda all_: worker(all_).template["spec"]["securityContext"].pop("seccompProfile"),
        "gateways has no seccomp profile",
    ),
    (
        rules_of_pods.nothing_is_privileged,
        lambda all_: worker(all_).container["securityContext"].pop("capabilities"),
        "gateways may gain privileges",
    ),
    (
        rules_of_pods.nothing_is_privileged,
        lambda all_: cluster(all_)["autoscalerOptions"].pop("securityContext"),
        "autoscaler may gain privileges",
    ),
    (
        rules_of_pods.every_node_is_probed,
        lambda all_: worker(all_).container.pop("livenessProbe"),
        "gateways has no livenessProbe",
    ),
    (
        rules_of_clusters.ready_means_a_gateway_answers,
        lambda all_: worker(all_).container.update(readinessProbe={"grpc": {"port": 50051}}),
        "gateways is ready without a gateway: use tcpSocket on port 50051",
    ),
    (
        rules_of_clusters.ready_means_a_gateway_answers,
        lambda all_: serve_config(all_, "port: 50051", "port: 50052"),
        "use tcpSocket on port 50052",
    ),
    (
        rules_of_clusters.the_service_has_its_ports,
        lambda all_: pod(all_, "RayService", "head").container["ports"][3].update(name="grpc"),
        "head: port serve-grpc is not 50051",
    ),
    (
        rules_of_clusters.the_service_has_its_ports,
        lambda all_: of(all_, "RayService")["spec"].pop("excludeHeadPodFromServeSvc"),
        "sends requests to the head",
    ),
    (
        rules_of_clusters.the_service_has_its_ports,
        lambda all_: of(all_, "RayService")["spec"].update(
            upgradeStrategy={"type": "NewClusterWithIncrementalUpgrade"}
        ),
        "only NewCluster",
    ),
    (
        rules_beside.secrets_are_elsewhere,
        lambda all_: worker(all_).container.update(env=[{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]),
        "AWS_SECRET_ACCESS_KEY is written out",
    ),
    (
        rules_beside.secrets_are_elsewhere,
        lambda all_: of(all_, "ConfigMap", "t2i-settings")["data"].update(AWS_SECRET_ACCESS_KEY="x"),
        "ConfigMap t2i-settings holds AWS_SECRET_ACCESS_KEY",
    ),
    (
        rules_beside.secrets_are_elsewhere,
        lambda all_: of(all_, "ConfigMap", "t2i-settings")["data"].update(x="AKIA" + "IOSFODNN7EXAMPLE"),
        "ConfigMap t2i-settings holds a key",
    ),
    (
        rules_beside.secrets_are_elsewhere,
        lambda all_: all_.append({"kind": "Secret", "metadata": {"name": "s"}, "data": {}}),
        "Secret s is written out",
    ),
    (
        rules_of_clusters.nodes_ask_for_a_token,
        lambda all_: cluster(all_).pop("authOptions"),
        "RayCluster t2i lets everybody submit",
    ),
    (
        rules_of_pods.pods_have_no_rights,
        lambda all_: worker(all_).template["spec"].pop("automountServiceAccountToken"),
        "gateways: automountServiceAccountToken is not False",
    ),
    (
        rules_of_pods.pods_have_no_rights,
        lambda all_: worker(all_).template["spec"].update(serviceAccountName="t2i-head"),
        "gateways is not t2i-worker",
    ),
    (
        rules_of_pods.pods_have_no_rights,
        lambda all_: of(all_, "ServiceAccount", "t2i-worker").pop("automountServiceAccountToken"),
        "ServiceAccount t2i-worker hands its token",
    ),
    (
        rules_of_pods.pods_have_no_rights,
        lambda all_: all_.append({"kind": "Role", "metadata": {"name": "r"}}),
        "Role r gives rights",
    ),
    (
        rules_of_pods.what_is_named_is_there,
        lambda all_: worker(all_).container["envFrom"].append({"secretRef": {"name": "t2i-s4"}}),
        "gateways: there is no Secret t2i-s4",
    ),
    (
        rules_of_pods.what_is_named_is_there,
        lambda all_: worker(all_).template["spec"]["volumes"][0]["secret"].update(secretName="t2i-ssl"),
        "gateways: there is no Secret t2i-ssl",
    ),
    (
        rules_of_pods.what_is_named_is_there,
        lambda all_: all_.remove(of(all_, "ServiceAccount", "t2i-head")),
        "head: there is no ServiceAccount t2i-head",
    ),
    (
        rules_of_clusters.clusters_scale,
        lambda all_: cluster(all_).update(rayVersion="2.9.0"),
        "RayCluster t2i says Ray 2.9.0",
    ),
    (
        rules_of_clusters.clusters_scale,
        lambda all_: cluster(all_)["autoscalerOptions"].pop("version"),
        "RayCluster t2i is not scaled by autoscaler v2",
    ),
    (
        rules_of_clusters.clusters_scale,
        lambda all_: cluster(all_)["headGroupSpec"]["rayStartParams"].clear(),
        "RayCluster t2i: replicas may run on the head",
    ),
    (
        rules_of_clusters.clusters_scale,
        lambda all_: worker(all_).spec.update(maxReplicas=1),
        "gateways has more workers at least than at most",
    ),
    (
        rules_of_clusters.clusters_scale,
        lambda all_: worker(all_).template["spec"].update(restartPolicy="Always"),
        "gateways: autoscaler v2 wants no restartPolicy",
    ),
    (
        rules_of_pods.labels_are_kuberays,
        lambda all_: worker(all_).template["metadata"]["labels"].update({"app.kubernetes.io/name": "t2i"}),
        "gateways: app.kubernetes.io/name is KubeRay's",
    ),
    (
        rules_beside.networks_are_closed,
        lambda all_: all_.remove(of(all_, "NetworkPolicy", "t2i-deny-all")),
        "t2i-deny-all does not forbid everything",
    ),
    (
        rules_beside.networks_are_closed,
        lambda all_: worker(all_).template["metadata"]["labels"].update({"app.kubernetes.io/component": "x"}),
        "gateways: no policy lets the pods of x speak",
    ),
    (
        rules_of_clusters.heads_come_back_from_rocksdb,
        lambda all_: cluster(all_)["gcsFaultToleranceOptions"].update(externalStorageNamespace="t2i"),
        "RayCluster t2i: KubeRay takes backend rocksdb",
    ),
    (
        rules_of_clusters.drains_are_awaited,
        lambda all_: worker(all_).template["spec"].pop("terminationGracePeriodSeconds"),
        "gateways is killed after 30 s, while it drains for 120 s",
    ),
    (
        rules_of_clusters.drains_are_awaited,
        lambda all_: worker(all_).container.update(lifecycle={"preStop": {"exec": {"command": ["sleep 150"]}}}),
        "gateways is killed before preStop ends",
    ),
    (
        rules_beside.budgets_can_be_kept,
        lambda all_: of(all_, "PodDisruptionBudget")["spec"].update(minAvailable=2),
        "keeps 2 of 2 pods",
    ),
    (
        rules_beside.budgets_can_be_kept,
        lambda all_: worker(all_).spec.pop("labels"),
        "keeps 1 of 0 pods",
    ),
    (
        rules_of_clusters.names_are_short,
        lambda all_: of(all_, "RayCronJob")["metadata"].update(name="t" * 37),
        "use at most 36",
    ),
    (rules_of_clusters.jobs_clean_up, lambda all_: job(all_).update(submissionMode="K8sJobMode"), "submitter's shell"),
    (rules_of_clusters.jobs_clean_up, lambda all_: job(all_).pop("deletionStrategy"), "leaves its cluster behind"),
    (
        rules_of_clusters.jobs_clean_up,
        lambda all_: job(all_)["rayClusterSpec"]["workerGroupSpecs"][0].update(minReplicas=0),
        "begins without a worker",
    ),
    (
        rules_beside.monitors_find_their_ports,
        lambda all_: of(all_, "PodMonitor")["spec"]["podMetricsEndpoints"].append({"port": "metricz"}),
        "no pod has a port metricz",
    ),
    (
        rules_beside.monitors_find_their_ports,
        lambda all_: worker(all_).container.update(ports=[{"name": "serve", "containerPort": 8000}]),
        "passes over a pod",
    ),
]


@pytest.mark.parametrize(("rule", "spoil", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_rules_can_be_broken(rule: Rule, spoil: Callable[[list[Document]], Any], message: str) -> None:
    documents = overlay("gpu")
    assert list(rule(documents)) == []
    spoil(documents)
    assert message in "\n".join(rule(documents))


def test_every_rule_is_tried_and_broken() -> None:
    modules = (rules_beside, rules_of_clusters, rules_of_pods)
    written = {name for module in modules for name, value in vars(module).items() if is_rule(value)}
    assert written == {rule.__name__ for rule in (*RULES, *WHOLE_RULES)} == {rule.__name__ for rule, *_ in BROKEN}


def is_rule(value: Any) -> bool:
    return getattr(value, "__annotations__", {}).get("return") == "Problems"
