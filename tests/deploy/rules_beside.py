"""Rules for what stands beside the Ray clusters: each yields a sentence for whatever breaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tests.deploy.manifests import Document, Pod, Problems, name_of, of_kind, pods

CREDENTIAL = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)\w*$")
GIVEN_AWAY = re.compile(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|\bt2i-[\w-]{43}\b")


def secrets_are_elsewhere(documents: Sequence[Document]) -> Problems:
    """No manifest holds a secret: it is named, and made by the folder `secrets`."""
    for document in documents:
        if document["kind"] == "Secret":
            yield f"{name_of(document)} is written out"
        if GIVEN_AWAY.search(json.dumps(document)):
            yield f"{name_of(document)} holds a key"
        if document["kind"] == "ConfigMap":
            yield from (f"{name_of(document)} holds {name}" for name in document["data"] if CREDENTIAL.search(name))
    for pod in pods(documents):
        for variable in pod.container.get("env", []):
            if CREDENTIAL.search(variable["name"]) and "value" in variable:
                yield f"{pod}: {variable['name']} is written out"


def networks_are_closed(documents: Sequence[Document]) -> Problems:
    """All that is not allowed is forbidden, and pods of each component reach each other."""
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(documents, "NetworkPolicy")}
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if policies.get("t2i-deny-all") != closed:
        yield "t2i-deny-all does not forbid everything"
    within = [spec["podSelector"] for spec in policies.values() if _allows_itself(spec)]
    for pod in pods(documents):
        component = pod.template["metadata"]["labels"].get("app.kubernetes.io/component")
        if {"matchLabels": {"app.kubernetes.io/component": component}} not in within:
            yield f"{pod}: no policy lets the pods of {component} speak to each other"


def _allows_itself(spec: Document) -> bool:
    own = [{"podSelector": spec["podSelector"]}]
    return spec.get("ingress") == [{"from": own}] and spec.get("egress") == [{"to": own}]


def budgets_can_be_kept(documents: Sequence[Document]) -> Problems:
    """A disruption budget names pods that there are, more than it keeps, and keeps a whole number."""
    labelled = [(pod, pod_labels(pod)) for pod in pods(documents)]
    for budget in of_kind(documents, "PodDisruptionBudget"):
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        found = sum(pod.spec.get("minReplicas", 1) for pod, labels in labelled if wanted <= labels.items())
        least = budget["spec"].get("minAvailable")
        if not isinstance(least, int) or not least < found:
            yield f"{name_of(budget)} keeps {least} of {found} pods: name a whole number below"


def pod_labels(pod: Pod) -> dict[str, str]:
    """Return the labels of a pod that this project gives it: KubeRay adds those of the group."""
    return pod.template["metadata"]["labels"] | pod.spec.get("labels", {})


def monitors_find_their_ports(documents: Sequence[Document]) -> Problems:
    """Prometheus asks for ports that pods have, and every Ray node has one."""
    for monitor in of_kind(documents, "PodMonitor"):
        asked = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
        named = [{port["name"] for port in pod.container["ports"]} for pod in pods(documents)]
        for port in asked - set().union(*named):
            yield f"{name_of(monitor)}: no pod has a port {port}"
        if not all(asked & ports for ports in named):
            yield f"{name_of(monitor)} passes over a pod"
