"""Which models a gateway knows, and the handles of their deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray import serve

from t2i.sampling import RequestError
from t2i.serve.generation.generate import StageHandles
from t2i.serve.monitoring.stage import APP_PREFIX


def app_of(model: str) -> str:
    """Return the name of the Serve application of a model."""
    return f"{APP_PREFIX}{model}"


class ServedModels:
    """The models by name, the default first."""

    def __init__(self, stages: Mapping[str, StageHandles] | None = None) -> None:
        self._stages = dict(stages or {})

    @property
    def names(self) -> list[str]:
        """The names of the models, the default first."""
        return list(self._stages)

    def set(self, names: Sequence[str]) -> None:
        """Know these models from now on; requests that have begun keep the handles that they have."""
        self._stages = {name: self._stages.get(name) or _handles(name) for name in names}

    def name_of(self, name: str) -> str:
        """Return the name of the model that ``name`` means: the default's if it is empty."""
        return name or next(iter(self._stages), "")

    def stages(self, name: str) -> StageHandles:
        """Return the handles of a model's deployments; the empty name means the default.

        Raises:
            RequestError: there is no such model.
        """
        name = self.name_of(name)
        if name not in self._stages:
            raise RequestError("model", f"model {name!r} is not served here: use {' or '.join(self._stages)}.")
        return self._stages[name]


def _handles(name: str) -> StageHandles:
    # Not asked whether they exist: gateways and models start side by side, and health tells when all are there.
    stages = ("prior", "decoder", "reranker")
    return StageHandles(*(serve.get_deployment_handle(each, app_of(name), _check_exists=False) for each in stages))
