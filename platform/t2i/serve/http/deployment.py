"""The Serve deployment that answers HTTP behind Serve's own proxy."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray import serve

from t2i.serve.access.access import Access
from t2i.serve.access.keys import KeyRing
from t2i.serve.catalog import Catalog
from t2i.serve.config import ServeConfig
from t2i.serve.http.app import make_http
from t2i.serve.http.limits import HttpLimits
from t2i.serve.models import ServedModels
from t2i.serve.monitoring.setup import set_up_monitoring
from t2i.serve.names import GATEWAY_APP


class HttpDoor:
    """One replica: it calls the models' deployments as a gateway does, and keeps nothing that another would miss."""

    def __init__(self, config: ServeConfig, images: Any) -> None:
        set_up_monitoring(config, "http")
        self._limits, self._images = HttpLimits.of(config), images
        self._models = ServedModels()
        self._access = Access()
        if config.keys:
            quotas = serve.get_deployment_handle("quotas", GATEWAY_APP, _check_exists=False)
            self._access = Access(KeyRing(config.keys), quotas)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the models of this catalog from now on; Serve calls it at the start as well."""
        self._models.set(Catalog.from_user_config(user_config))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application; Serve calls this once, after the constructor."""
        return make_http(self._models, self._limits, self._images, self._access, echo_request_id=False)
