"""KubeRay's own checks: the schemas of its resources with unknown keys refused, and their rules in CEL.

The schemas are not part of this project: ``KUBERAY_CRDS`` names the folder that has them, by default one beside the
checkout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import celpy
import jsonschema
from celpy.adapter import json_to_cel

from tests.deploy.manifests import ROOT, Document

FOLDER = Path(os.environ.get("KUBERAY_CRDS", ROOT.parent / "shared" / "kuberay-crds"))
FILES = {
    "RayCluster": "rayclusters.json",
    "RayService": "rayservices.json",
    "RayJob": "rayjobs.json",
    "RayCronJob": "raycronjobs.json",
}

Schema = dict[str, Any]


@cache
def schema_of(kind: str) -> Schema:
    """Return the schema of a kind, as KubeRay publishes it."""
    schema: Schema = json.loads((FOLDER / FILES[kind]).read_text())["schema"]
    return schema


@cache
def validator_of(kind: str) -> jsonschema.Draft202012Validator:
    """Return a validator of a kind that refuses keys which the schema does not know."""
    return jsonschema.Draft202012Validator(closed(schema_of(kind)))


def closed(schema: Schema) -> Schema:
    """Return a schema that refuses unknown keys wherever it names those that it knows."""
    schema = dict(schema)
    if "properties" in schema:
        schema["properties"] = {name: closed(inner) for name, inner in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = closed(schema[key])
    return schema


def problems(document: Document) -> list[str]:
    """Return what KubeRay's schema and rules have against a document."""
    errors = validator_of(document["kind"]).iter_errors(document)
    found = [f"{error.json_path}: {error.message}" for error in errors]
    return found or list(broken_rules(schema_of(document["kind"]), document, "$"))


def broken_rules(schema: Schema, value: Any, path: str) -> Iterator[str]:
    """Yield the messages of the CEL rules that a value breaks, within it as well."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"] and not holds(rule["rule"], value):  # those compare with what was before
            yield f"{path}: {rule.get('message', rule['rule'])}"
    if isinstance(value, dict):
        for key, inner in value.items():
            known = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if isinstance(known, dict):
                yield from broken_rules(known, inner, f"{path}.{key}")
    if isinstance(value, list) and "items" in schema:
        for index, inner in enumerate(value):
            yield from broken_rules(schema["items"], inner, f"{path}[{index}]")


def holds(rule: str, value: Any) -> bool:
    """Return whether a CEL rule is true of a value, which it calls ``self``."""
    return bool(_program(rule).evaluate({"self": json_to_cel(value)}))


@cache
def _program(rule: str) -> Any:
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))
