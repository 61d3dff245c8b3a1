"""This project's own rules for the manifests: each yields a sentence for whatever breaks it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

from tests.deploy.manifests import ROOT, Document, Pod, clusters, name_of, of_kind, pods
from tests.deploy.serve_config import ServedAs, serving_pods

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RAY_VERSION = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)[0]
SECRETS = {"t2i-s3", "t2i-keys", "t2i-tls"}
"""The Secrets that the folder `secrets` makes."""

CREDENTIAL = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)\w*$")
GIVEN_AWAY = re.compile(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|\bt2i-[\w-]{43}\b")

Problems = Iterator[str]


def images_are_pinned(documents: Sequence[Document]) -> Problems:
    """Every image is this project's at its own version, or has a digest."""
    for pod in pods(documents):
        image = pod.container["image"]
        if "@sha256:" not in image and not re.search(rf":{re.escape(VERSION)}(-\w+)?$", image):
            yield f"{pod}: {image} is not pinned to version {VERSION}"


def resources_are_set(documents: Sequence[Document]) -> Problems:
    """Every container asks for CPU and memory and may have no more than a limit; so does the autoscaler."""
    containers = [(str(pod), pod.container) for pod in pods(documents)]
    containers += [(f"{name_of(of)} autoscaler", spec["autoscalerOptions"]) for of, spec in clusters(documents)]
    for name, container in containers:
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
    containers = [(str(pod), pod.container) for pod in pods(documents)]
    containers += [(f"{name_of(of)} autoscaler", spec["autoscalerOptions"]) for of, spec in clusters(documents)]
    for name, container in containers:
        if container.get("securityContext") != {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}:
            yield f"{name} may gain privileges"


def every_node_is_probed(documents: Sequence[Document]) -> Problems:
    """Kubernetes asks every Ray node whether it lives and is ready; KubeRay's own probes would need wget."""
    for pod in pods(documents):
        for probe in ("livenessProbe", "readinessProbe"):
            if probe not in pod.container:
                yield f"{pod} has no {probe}"


def ready_means_a_gateway_answers(documents: Sequence[Document]) -> Problems:
    """A worker of the service is ready by its gateway; where that speaks TLS, the kubelet sees only that it listens."""
    for pod, served in serving_pods(documents):
        probe = "tcpSocket" if served.config.tls.is_on else "grpc"
        if pod.container["readinessProbe"].get(probe) != {"port": served.config.port}:
            yield f"{pod} is ready without a gateway: use {probe} on port {served.config.port}"


def the_service_has_its_ports(documents: Sequence[Document]) -> Problems:
    """KubeRay's Service has the ports of the head's container named serve and serve-*, and leads to workers alone."""
    for service in of_kind(documents, "RayService"):
        served = ServedAs.of(service)
        wanted = {"serve": served.schema.http_options.port, "serve-grpc": served.config.port}
        for pod in pods([service]):
            ports = {port["name"]: port["containerPort"] for port in pod.container["ports"]}
            for name, number in wanted.items():
                if ports.get(name) != number:
                    yield f"{pod}: port {name} is not {number}"
        if not service["spec"].get("excludeHeadPodFromServeSvc"):
            yield f"{name_of(service)} sends requests to the head, which has no gateway"
        if service["spec"].get("upgradeStrategy") != {"type": "NewCluster"}:
            yield f"{name_of(service)}: only NewCluster keeps gRPC up while it is upgraded"


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


def nodes_ask_for_a_token(documents: Sequence[Document]) -> Problems:
    """Every Ray cluster refuses who has not its token."""
    for document, spec in clusters(documents):
        if spec.get("authOptions", {}).get("mode") != "token":
            yield f"{name_of(document)} lets everybody submit jobs: set authOptions.mode to token"


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


def clusters_scale(documents: Sequence[Document]) -> Problems:
    """Ray's autoscaler v2 scales the workers, and nothing else runs on the head."""
    for document, spec in clusters(documents):
        name = name_of(document)
        if spec["rayVersion"] != RAY_VERSION:
            yield f"{name} says Ray {spec['rayVersion']}, the image has {RAY_VERSION}"
        if not spec.get("enableInTreeAutoscaling") or spec["autoscalerOptions"].get("version") != "v2":
            yield f"{name} is not scaled by autoscaler v2"
        if spec["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
            yield f"{name}: replicas may run on the head"
        for group in spec["workerGroupSpecs"]:
            if group["minReplicas"] > group["maxReplicas"]:
                yield f"{name}: {group['groupName']} has more workers at least than at most"
    for pod in pods(documents):
        if "restartPolicy" in pod.template["spec"]:
            yield f"{pod}: autoscaler v2 wants no restartPolicy"


def labels_are_kuberays(documents: Sequence[Document]) -> Problems:
    """Pods leave KubeRay its labels: Services of the heads would no longer find them."""
    for pod in pods(documents):
        for label in pod.template["metadata"]["labels"]:
            if label == "app.kubernetes.io/name" or label.startswith("ray.io/"):
                yield f"{pod}: {label} is KubeRay's"


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


def heads_come_back_from_rocksdb(documents: Sequence[Document]) -> Problems:
    """A head that comes back finds its state on a volume of its own, where it is to come back at all."""
    for document, spec in clusters(documents):
        options = spec.get("gcsFaultToleranceOptions")
        if options and (options.get("backend") != "rocksdb" or options.keys() - {"backend", "storage"}):
            yield f"{name_of(document)}: KubeRay takes backend rocksdb with storage alone, and no namespace"


def drains_are_awaited(documents: Sequence[Document]) -> Problems:
    """Kubernetes waits for longer than the service needs to finish what it has begun, and than preStop sleeps."""
    for pod, served in serving_pods(documents):
        grace = pod.template["spec"].get("terminationGracePeriodSeconds", 30)
        if grace <= served.config.drain_s:
            yield f"{pod} is killed after {grace} s, while it drains for {served.config.drain_s:g} s"
    for pod in pods(documents):
        slept = re.findall(r"sleep (\d+)", json.dumps(pod.container.get("lifecycle", {})))
        if slept and int(slept[0]) >= pod.template["spec"].get("terminationGracePeriodSeconds", 30):
            yield f"{pod} is killed before preStop ends"


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


def names_are_short(documents: Sequence[Document]) -> Problems:
    """KubeRay makes longer names of those of its resources."""
    longest = {"RayCluster": 53, "RayService": 47, "RayJob": 47, "RayCronJob": 36}
    for document, _ in clusters(documents):
        name = document["metadata"]["name"]
        if len(name) > longest[document["kind"]] or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
            yield f"{name_of(document)}: use at most {longest[document['kind']]} of a-z, 0-9 and -"


def jobs_clean_up(documents: Sequence[Document]) -> Problems:
    """A job is submitted by KubeRay itself, and its cluster goes when it is done, by rules alone."""
    jobs = [(job, job["spec"]) for job in of_kind(documents, "RayJob")]
    jobs += [(cron, cron["spec"]["jobTemplate"]) for cron in of_kind(documents, "RayCronJob")]
    for job, spec in jobs:
        if spec.get("submissionMode") != "HTTPMode":
            yield f"{name_of(job)}: a submitter's shell would fill in the variables, which it has not"
        rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
        ends = {json.dumps(rule["condition"].get("jobStatus")) for rule in rules if rule["policy"] == "DeleteCluster"}
        if not {'"SUCCEEDED"', '"FAILED"'} <= ends or spec.get("shutdownAfterJobFinishes"):
            yield f"{name_of(job)} leaves its cluster behind"
        if spec["rayClusterSpec"]["workerGroupSpecs"][0]["minReplicas"] < 1:
            yield f"{name_of(job)} begins without a worker"


def monitors_find_their_ports(documents: Sequence[Document]) -> Problems:
    """Prometheus asks for ports that pods have, and every Ray node has one."""
    for monitor in of_kind(documents, "PodMonitor"):
        asked = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
        named = [{port["name"] for port in pod.container["ports"]} for pod in pods(documents)]
        for port in asked - set().union(*named):
            yield f"{name_of(monitor)}: no pod has a port {port}"
        if not all(asked & ports for ports in named):
            yield f"{name_of(monitor)} passes over a pod"
