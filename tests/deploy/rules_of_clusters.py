"""Rules for Ray clusters, the service and the jobs: each yields a sentence for whatever breaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tests.deploy.manifests import ROOT, Document, Problems, clusters, name_of, of_kind, pods
from tests.deploy.serve_config import ServedAs, serving_pods

RAY_VERSION = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)[0]


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


def nodes_ask_for_a_token(documents: Sequence[Document]) -> Problems:
    """Every Ray cluster refuses who has not its token."""
    for document, spec in clusters(documents):
        if spec.get("authOptions", {}).get("mode") != "token":
            yield f"{name_of(document)} lets everybody submit jobs: set authOptions.mode to token"


def heads_come_back_from_rocksdb(documents: Sequence[Document]) -> Problems:
    """A head that comes back finds its state on a volume of its own, where it is to come back at all."""
    for document, spec in clusters(documents):
        options = spec.get("gcsFaultToleranceOptions")
        if options and (options.get("backend") != "rocksdb" or options.keys() - {"backend", "storage"}):
            yield f"{name_of(document)}: KubeRay takes backend rocksdb with storage alone, and no namespace"


def names_are_short(documents: Sequence[Document]) -> Problems:
    """KubeRay makes longer names of those of its resources."""
    longest = {"RayCluster": 53, "RayService": 47, "RayJob": 47, "RayCronJob": 36}
    for document, _ in clusters(documents):
        name = document["metadata"]["name"]
        if len(name) > longest[document["kind"]] or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
            yield f"{name_of(document)}: use at most {longest[document['kind']]} of a-z, 0-9 and -"


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


def ready_means_a_gateway_answers(documents: Sequence[Document]) -> Problems:
    """A worker of the service is ready by its gateway; where that speaks TLS, the kubelet sees only that it listens."""
    for pod, served in serving_pods(documents):
        probe = "tcpSocket" if served.config.tls.is_on else "grpc"
        if pod.container["readinessProbe"].get(probe) != {"port": served.config.port}:
            yield f"{pod} is ready without a gateway: use {probe} on port {served.config.port}"


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
