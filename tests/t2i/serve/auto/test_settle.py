"""A small random prior is measured; what was chosen first holds for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from models.dtypes import DTYPES
from t2i.serve.auto import agreement, settle
from t2i.serve.auto.choice import EngineSettings
from t2i.serve.config import PriorReplicaConfig, ServeConfig
from t2i.serve.replicas.setup import setup_of

CHOICES = [EngineSettings("float32", 8, 2), EngineSettings("bfloat16", 64, 1)]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Measuring sets the process's threads."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A store of keys and values like that of Ray's head."""
    store: dict[str, str] = {}

    def put(key: str, value: str, overwrite: bool, namespace: str) -> None:
        store[namespace + key] = value if overwrite else store.get(namespace + key, value)

    monkeypatch.setattr(agreement, "_internal_kv_initialized", lambda: True)
    monkeypatch.setattr(agreement, "_internal_kv_get", lambda key, namespace: store.get(namespace + key))
    monkeypatch.setattr(agreement, "_internal_kv_put", put)
    return store


def config_of(run: Path, **prior: object) -> ServeConfig:
    return ServeConfig(str(run), prior=PriorReplicaConfig(**prior))  # type: ignore[arg-type]


def test_everything_that_is_open_is_measured(run_directory: Path) -> None:
    settings = settle.settled(config_of(run_directory)).prior.settings
    assert settings.dtype in DTYPES
    assert settings.slots in settle.SLOTS["cpu"]
    assert settings.threads >= 1


@pytest.mark.gpu
def test_a_gpu_is_measured(run_directory: Path) -> None:
    config = settle.settled(config_of(run_directory, gpus=1))
    assert config.prior.settings.slots in settle.SLOTS["cuda"]
    assert config.prior.settings.threads == 1
    assert setup_of(config).prior.device == f"cuda {torch.cuda.get_device_name()}"


def test_what_is_pinned_stays(run_directory: Path) -> None:
    pinned = config_of(run_directory, dtype="bfloat16", slots=3, threads=1)
    assert settle.settled(pinned) is pinned
    settings = settle.settled(config_of(run_directory, dtype="int8", slots=5)).prior.settings
    assert (settings.dtype, settings.slots) == ("int8", 5)
    assert setup_of(settle.settled(config_of(run_directory, slots=5, captions=2))).captions == 2


def test_all_replicas_use_what_the_first_has_chosen(
    run_directory: Path, store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = iter(CHOICES)
    monkeypatch.setattr(settle, "_measured", lambda _: next(choices))
    settled = [settle.settled(config_of(run_directory)).prior.settings for _ in range(3)]
    assert settled == [CHOICES[0]] * 3
    assert settle.settled(config_of(run_directory, captions=1)).prior.settings == CHOICES[1]  # people chose otherwise
    assert len(store) == 2


def test_of_replicas_that_measure_at_the_same_time_one_is_followed(store: dict[str, str]) -> None:
    def meanwhile(choice: EngineSettings, other: Callable[[], EngineSettings]) -> EngineSettings:
        assert agreement.agreed("model", other) == CHOICES[1]
        return choice

    assert agreement.agreed("model", lambda: meanwhile(CHOICES[0], lambda: CHOICES[1])) == CHOICES[1]
    assert len(store) == 1
