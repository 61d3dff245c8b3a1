"""Which models a gateway knows, and the handles of their deployments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray import serve

from t2i.sampling import RequestError
from t2i.serve.catalog import Catalog, app_of
from t2i.serve.generation.stages import StageHandles


@dataclass(frozen=True)
class Served:
    """A model that answers a request: its name, whatever the request called it, and its handles."""

    name: str
    stages: StageHandles


class ServedModels:
    """The models of a catalog, with the handles of their applications; ``stages`` are those that are known already."""

    def __init__(
        self, stages: Mapping[str, StageHandles] | None = None, aliases: Mapping[str, str] | None = None
    ) -> None:
        apps = {name: app_of(name) for name in stages or {}}
        handles = {apps[name]: each for name, each in (stages or {}).items()}
        self._known = (Catalog(apps, aliases or {}), handles)  # exchanged as a whole: other threads read it

    @property
    def catalog(self) -> Catalog:
        """The models that are known."""
        return self._known[0]

    def set(self, catalog: Catalog) -> None:
        """Know these models from now on; requests that have begun keep the handles that they have."""
        before = self._known[1]
        self._known = (catalog, {app: before.get(app) or _handles(app) for app in catalog.apps.values()})

    def find(self, name: str) -> Served:
        """Return the model that a name or an alias means; the empty name means the default.

        Raises:
            RequestError: there is no such model.
        """
        catalog, handles = self._known
        model = catalog.resolve(name)
        if model not in catalog.apps:
            raise RequestError("model", f"model {name!r} is not served here: use {' or '.join(catalog.names)}.")
        return Served(model, handles[catalog.apps[model]])

    def all(self) -> list[Served]:
        """Return all models, the default first."""
        catalog, handles = self._known
        return [Served(name, handles[app]) for name, app in catalog.apps.items()]

    def stages(self, name: str) -> StageHandles:
        """Return the handles of the model that a name means, as :meth:`find`."""
        return self.find(name).stages


def _handles(app: str) -> StageHandles:
    # Not asked whether they exist: gateways and models start side by side, and health tells when all are there.
    stages = ("prior", "decoder", "reranker")
    prior, decoder, reranker = (serve.get_deployment_handle(each, app, _check_exists=False) for each in stages)
    return StageHandles(prior, decoder, reranker)
