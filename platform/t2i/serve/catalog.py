"""Which Serve application answers for each model, and under which other names; pure, changed by making another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from t2i.sampling import RequestError
from t2i.serve.config import ServeConfig, check_name

MODEL_APPS = "t2i-model-"
"""What the names of all models' applications begin with."""


def app_of(model: str, version: str = "") -> str:
    """Return the name of the Serve application of a model, or of one of its versions."""
    return f"{MODEL_APPS}{model}@{version}" if version else f"{MODEL_APPS}{model}"


def model_of(app: str) -> str:
    """Return the model whose application has this name."""
    return app.removeprefix(MODEL_APPS).partition("@")[0]


@dataclass(frozen=True)
class Catalog:
    """The models that a service has.

    Attributes:
        apps: model -> its application, the default first.
        aliases: other name -> model; "" is whichever model is the default.
        revision: how often it was changed.
    """

    apps: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0

    @classmethod
    def of(cls, config: ServeConfig) -> Catalog:
        """Return the models that a configuration names."""
        return cls(
            {name: app_of(name) for name in config.model_names}, {each.name: each.model for each in config.aliases}
        )

    @classmethod
    def from_user_config(cls, told: Mapping[str, Any]) -> Catalog:
        """Return what :meth:`user_config` has told."""
        apps = {each["name"]: each["app"] for each in told["models"]}
        aliases = {each["name"]: each["model"] for each in told.get("aliases", ())}
        return cls(apps, aliases, told.get("revision", 0))

    def user_config(self) -> dict[str, Any]:
        """Return it as the ``user_config`` of a deployment; lists, since Serve does not see the order of a mapping."""
        return {
            "models": [{"name": name, "app": app} for name, app in self.apps.items()],
            "aliases": [{"name": name, "model": model} for name, model in self.aliases.items()],
            "revision": self.revision,
        }

    @property
    def default(self) -> str:
        """The model of requests that name none; empty if there are no models."""
        return next(iter(self.apps), "")

    @property
    def names(self) -> list[str]:
        """What requests may call the models: their names, the default first, then the aliases."""
        return [*self.apps, *(alias for model in self.apps for alias in self.aliases_of(model))]

    def resolve(self, name: str) -> str:
        """Return the model that a request means by a name: the default by none, an alias' by an alias."""
        return (name if name in self.apps else self.aliases.get(name, name)) or self.default

    def aliases_of(self, model: str) -> list[str]:
        """Return the other names of a model."""
        return [alias for alias in self.aliases if alias not in self.apps and self.resolve(alias) == model]

    def with_model(self, name: str, app: str) -> Catalog:
        """Return the catalog after an application has begun to answer for a model, a new one or one that is there.

        Raises:
            RequestError: the name is not possible, or an alias.
        """
        try:
            check_name(name, "name")
        except ValueError as error:
            raise RequestError("name", str(error)) from error
        if name in self.aliases:
            raise RequestError("name", f"name: {name} is an alias of {self.resolve(name)}: choose another name.")
        return replace(self, apps={**self.apps, name: app}, revision=self.revision + 1)

    def without(self, name: str) -> Catalog:
        """Return the catalog after a model was removed.

        Raises:
            RequestError: there is no such model, or it is the default.
        """
        self._check_served(name)
        if name == self.default:
            raise RequestError("name", f"name: {name} is the default: make another the default first.")
        apps = {each: app for each, app in self.apps.items() if each != name}
        return replace(self, apps=apps, revision=self.revision + 1)

    def with_default(self, name: str) -> Catalog:
        """Return the catalog after a model was made the default.

        Raises:
            RequestError: there is no such model.
        """
        self._check_served(name)
        return replace(self, apps={name: self.apps[name], **self.apps}, revision=self.revision + 1)

    def _check_served(self, name: str) -> None:
        if name not in self.apps:
            raise RequestError("name", f"name: model {name!r} is not served here: use {' or '.join(self.apps)}.")
