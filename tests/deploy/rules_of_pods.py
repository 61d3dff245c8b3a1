"""Rules for the pods of Ray nodes: each yields a sentence for whatever breaks it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

from tests.deploy.manifests import ROOT, Document, Problems, clusters, name_of, of_kind, pods

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SECRETS = {"t2i-s3", "t2i-keys", "t2i-tls"}
"""The Secrets that the folder `secrets` makes."""


def images_are_pinned(documents: Sequence[Document]) -> Problems:
    """Every image is this project's at its own version, or has a digest."""
    for pod in pods(documents):
        image = pod.container["image"]
        if "@sha256:" not in image and not re.search(rf":{re.escape(VERSION)}(-\w+)?$", image):
            yield f"{pod}: {image} is not pinned to version {VERSION}"


def resources_are_set(documents: Sequence[Document]) -> Problems:
    """Every container asks for CPU and memory and may have no more than a limit; so does the autoscaler."""
    for name, container in _containers(documents):
        for bound in ("requests", "limits"):
            missing = {"cpu", "memory"} - container.get("resources", {}).get(bound, {}).keys()
            if missing:
                yield f"{name}: no {bound} of {' and '.join(sorted(missing))}"


def nothing_is_privileged(documents: Sequence[Document]) -> Problems:
    """No process is root, or can become it."""
    for pod in pods(documents):
        context = pod.template["spec"].get("securityContext", {})
        if not context.get("runAsNonRoot") or not context.get("runAsUser"):
            yield f"{pod} may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{pod} has no seccomp profile"
    for name, container in _containers(documents):
        if container.get("securityContext") != {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}:
            yield f"{name} may gain privileges"


def _containers(documents: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    """Yield every container by name: those of the Ray nodes, and the autoscaler that KubeRay adds to heads."""
    yield from ((str(pod), pod.container) for pod in pods(documents))
    yield from ((f"{name_of(of)} autoscaler", spec["autoscalerOptions"]) for of, spec in clusters(documents))


def every_node_is_probed(documents: Sequence[Document]) -> Problems:
    """Kubernetes asks every Ray node whether it lives and is ready; KubeRay's own probes would need wget."""
    for pod in pods(documents):
        for probe in ("livenessProbe", "readinessProbe"):
            if probe not in pod.container:
                yield f"{pod} has no {probe}"


def pods_have_no_rights(documents: Sequence[Document]) -> Problems:
    """Workers do not see the API server; heads do, for the autoscaler, by an account without rights of its own."""
    for pod in pods(documents):
        name, mounted = ("t2i-head", True) if pod.group == "head" else ("t2i-worker", False)
        if pod.template["spec"].get("serviceAccountName") != name:
            yield f"{pod} is not {name}"
        if pod.template["spec"].get("automountServiceAccountToken") is not mounted:
            yield f"{pod}: automountServiceAccountToken is not {mounted}"
    for account in of_kind(documents, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name_of(account)} hands its token to every pod"
    for right in of_kind(documents, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield f"{name_of(right)} gives rights"


def labels_are_kuberays(documents: Sequence[Document]) -> Problems:
    """Pods leave KubeRay its labels: Services of the heads would no longer find them."""
    for pod in pods(documents):
        for label in pod.template["metadata"]["labels"]:
            if label == "app.kubernetes.io/name" or label.startswith("ray.io/"):
                yield f"{pod}: {label} is KubeRay's"


def what_is_named_is_there(documents: Sequence[Document]) -> Problems:
    """Whatever a pod names is made by the overlay or by the folder `secrets`."""
    kinds = {"secretName": "Secret", "claimName": "PersistentVolumeClaim", "serviceAccountName": "ServiceAccount"}
    there = {(document["kind"], document["metadata"]["name"]) for document in documents}
    there |= {("Secret", name) for name in SECRETS}
    for pod in pods(documents):
        named = [(kinds[key], name) for key, name in _leaves(pod.template["spec"]) if key in kinds]
        for source in pod.container.get("envFrom", []):
            named += [(kind, source[key]["name"]) for key, kind in _SOURCES.items() if key in source]
        for kind, name in named:
            if (kind, name) not in there:
                yield f"{pod}: there is no {kind} {name}"


_SOURCES = {"configMapRef": "ConfigMap", "secretRef": "Secret"}


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value
