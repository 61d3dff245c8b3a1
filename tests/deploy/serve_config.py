"""The Serve configuration inside a RayService, read by the code that will read it in the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml
from ray.serve.schema import ServeDeploySchema

from t2i.config import load_mapping
from t2i.serve.config import ServeConfig
from tests.deploy.manifests import Document, Pod, of_kind, pods


@dataclass(frozen=True)
class ServedAs:
    """What Serve and the applications make of the configuration."""

    schema: ServeDeploySchema
    config: ServeConfig

    @classmethod
    def of(cls, service: Document) -> ServedAs:
        """Read the configuration of a RayService.

        Raises:
            ValueError, ConfigError: Serve or the service refuses it.
        """
        schema = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
        configs = [load_mapping(ServeConfig, each.args) for each in schema.applications]
        assert all(config == configs[0] for config in configs), "the applications have different settings"
        return cls(schema, configs[0])


def serving_pods(documents: Sequence[Document]) -> Iterator[tuple[Pod, ServedAs]]:
    """Yield the workers of every RayService, each with its configuration."""
    for service in of_kind(documents, "RayService"):
        served = ServedAs.of(service)
        yield from ((pod, served) for pod in pods([service]) if pod.group != "head")
