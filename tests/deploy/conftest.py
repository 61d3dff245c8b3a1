"""What the service's code finds when it reads the Serve configurations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from t2i.storage.model_push import push
from t2i.storage.model_store import ModelStore
from t2i.storage.paths import STORE_VARIABLE
from tests.deploy.manifests import ROOT


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A model store with the version that deploy/serve/t2i-gpu.yaml names: the shipped models."""
    store = str(tmp_path_factory.mktemp("models"))
    push(ModelStore(store), "small/1", str(ROOT / "models" / "trained" / "small"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STORE_VARIABLE, store)
        yield
