"""The settings of a service: models, address, limits and replicas."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from models.dtypes import COMPILE_MEANING, DTYPE_MEANING, DTYPES, PRIOR_DTYPE_MEANING, PRIOR_DTYPES, check_dtype
from models.settings import AUTO, setting
from t2i.config import MODEL_STORE
from t2i.engine.drafting import PARALLEL_MEANING, window_of
from t2i.logs import LOG_FORMATS
from t2i.serve.auto.choice import EngineSettings
from t2i.storage import run_setting

GATEWAYS_PER_NODE = 2
"""Gateways that one node may have: they share its port, so that one answers while the other is being replaced."""

GATEWAY_CPUS = 0.1
"""Logical CPUs that a gateway, or the replica that answers HTTP, reserves."""

SCALING_POLICY = "t2i.serve.scaling:by_outstanding_tokens"
"""Import path of the function by which Serve's controller scales the prior."""


@dataclass
class ReplicaConfig:
    """How many replicas a deployment has, and the load and the hardware of each."""

    min_replicas: int = setting(
        1, "replicas kept at all times; 0: the first request after a pause waits for one to start", at_least=0
    )
    max_replicas: int = setting(1, "replicas that load may grow to", at_least=1)
    idle_s: float = setting(
        600.0, "seconds after which replicas that load no longer needs are stopped, down to min_replicas", at_least=0
    )
    ongoing: int = setting(
        32,
        "calls that one replica works on at once; replicas are added when they have more than half of it",
        at_least=1,
    )
    queued: int = setting(64, "calls that may wait for a replica; further ones are refused", at_least=0)
    cpus: float = setting(0.25, "logical CPUs that one replica reserves", at_least=0)
    gpus: float = setting(0.0, "GPUs that one replica reserves; 0 computes on the CPU", at_least=0)
    threads: int | None = setting(
        None,
        "threads that one replica computes with on the CPU; auto: as many as the CPUs that it reserves, at least one",
        at_least=1,
    )
    dtype: str = setting("float32", DTYPE_MEANING)
    known_dtypes: ClassVar[Collection[str]] = DTYPES

    def __post_init__(self) -> None:
        check_dtype(self.dtype, self.known_dtypes)
        if self.min_replicas > self.max_replicas:
            counts = f"min_replicas is {self.min_replicas} and max_replicas {self.max_replicas}"
            raise ValueError(f"{counts}: use min_replicas <= max_replicas.")

    @property
    def initial_replicas(self) -> int:
        """The replicas at the start: one even where none are kept, so that a fault is found then, not by a client."""
        return max(1, self.min_replicas)

    @property
    def threads_used(self) -> int:
        """The threads that one replica computes with on the CPU."""
        return self.threads or max(1, int(self.cpus))

    @property
    def device(self) -> str:
        """The torch device that the replica's model is on."""
        return "cuda" if self.gpus else "cpu"

    def options(self) -> dict[str, Any]:
        """Return these settings as the options of a Serve deployment."""
        return {
            "ray_actor_options": {"num_cpus": self.cpus, "num_gpus": self.gpus},
            "max_ongoing_requests": self.ongoing,
            "max_queued_requests": self.queued,
            "health_check_period_s": 2.0,
            **self._scale(),
        }

    def _scale(self) -> dict[str, Any]:
        if self.min_replicas == self.max_replicas:
            return {"num_replicas": self.min_replicas}
        autoscaling = {
            "min_replicas": self.min_replicas,
            "initial_replicas": self.initial_replicas,
            "max_replicas": self.max_replicas,
            "downscale_delay_s": self.idle_s,
            **self._load(),
        }
        return {"autoscaling_config": autoscaling}

    def _load(self) -> dict[str, Any]:
        """Return by what Serve scales: the calls that wait at replicas and handles, or are worked on."""
        return {"target_ongoing_requests": self.ongoing / 2}


@dataclass
class PriorReplicaConfig(ReplicaConfig):
    """Settings of the prior's replicas, each of which has an engine."""

    cpus: float = setting(1.0, "logical CPUs that one replica reserves", at_least=0)
    ongoing: int = setting(
        1000, "requests that one replica has at once; it refuses those that cannot meet their deadline", at_least=1
    )
    threads: int | None = setting(
        None, "threads that one replica computes with on the CPU; auto: measured at the start", at_least=1
    )
    dtype: str = setting(AUTO, f"{PRIOR_DTYPE_MEANING}; auto: measured at the start")
    slots: int | None = setting(
        None, "candidates that one replica samples at once; auto: measured at the start", at_least=1
    )
    captions: int | None = setting(
        None, "most captions sampled at once, which bounds the memory for text; empty: as many as slots", at_least=1
    )
    parallel: str = setting(AUTO, PARALLEL_MEANING)
    compile: bool = setting(False, COMPILE_MEANING)
    known_dtypes: ClassVar[Collection[str]] = (*PRIOR_DTYPES, AUTO)

    def __post_init__(self) -> None:
        super().__post_init__()
        window_of(self.parallel)  # raises if it is none

    @property
    def is_measured(self) -> bool:
        """Whether a setting is left to what is measured at the start."""
        return self.dtype == AUTO or self.slots is None or self.threads is None

    @property
    def window(self) -> int:
        """The most image tokens of a candidate that a step makes."""
        return window_of(self.parallel)

    @property
    def settings(self) -> EngineSettings:
        """What an engine computes with; nothing is left to be measured by now."""
        assert self.slots is not None
        assert self.threads is not None
        return EngineSettings(self.dtype, self.slots, self.threads)

    def _load(self) -> dict[str, Any]:
        """Return by what Serve scales: the image tokens that replicas have still to make, which differ by request."""
        return {"policy": {"policy_function": SCALING_POLICY}}


@dataclass
class NamedRun:
    """A run directory whose models are served under a name."""

    name: str = setting("", "what requests call it: letters, digits, '.', '_' and '-'")
    run: str = run_setting("")

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass
class Alias:
    """Another name by which requests may ask for a model, for clients that have one built in."""

    name: str = setting("", "what requests call it, such as dall-e-3")
    model: str = setting("", "the model that answers; empty: whichever is the default")

    def __post_init__(self) -> None:
        check_name(self.name, "aliases")


@dataclass
class TLSConfig:
    """Files by which the gateways prove who they are; they are read again when they change."""

    certificate: str | None = setting(
        None, "PEM file of the gateways' certificate and its chain; turns TLS on", path="read"
    )
    key: str | None = setting(None, "PEM file of the certificate's private key", path="read")
    client_ca: str | None = setting(
        None, "PEM file of the authorities by which clients must have a certificate (mutual TLS)", path="read"
    )

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls.certificate and tls.key belong together: give both, or neither.")
        if self.client_ca and not self.certificate:
            raise ValueError("tls.client_ca needs a certificate of the gateways: give tls.certificate and tls.key.")

    @property
    def is_on(self) -> bool:
        """Whether the gateways speak TLS."""
        return self.certificate is not None

    @property
    def files(self) -> list[str]:
        """The files that there are."""
        return [path for path in (self.certificate, self.key, self.client_ca) if path]


@dataclass
class ServeConfig:
    """Settings of one service, which has the models of some run directories behind one gRPC address."""

    run: str = run_setting("runs/tiny", "run of the default model, which is named by the last part, or by NAME")
    models: list[NamedRun] = setting(list, "further models, each with a name and a run directory")
    aliases: list[Alias] = setting(list, "other names of models, for clients that ask for dall-e-3 or the like")
    host: str = setting(
        "127.0.0.1", "IPv4 or IPv6 address to listen on; 0.0.0.0 or :: opens the service to the network"
    )
    tls: TLSConfig = setting(TLSConfig, "TLS of the gateways")
    keys: str | None = setting(
        None,
        "YAML file of the keys by which clients are known (t2i keys new); without it everybody may ask",
        path="read",
    )
    insecure: bool = setting(False, "listen on an address that others reach although there is neither TLS nor keys")
    address_file: str | None = setting(
        None, "file into which the address is written once the service is ready, for scripts", path="file"
    )
    port: int = setting(50051, "port to listen on; 0 takes any free one", at_least=0, at_most=65535)
    http_port: int = setting(
        0,
        "port for HTTP, which is OpenAI's Images API and a web page, on the same address; 0: none",
        at_least=0,
        at_most=65535,
    )
    http_replicas: int = setting(
        2, "replicas that answer HTTP, behind the port of every node: one answers if another is lost", at_least=1
    )
    http_url_key: str = setting(
        "", "signs the addresses of images in answers over HTTP; empty: a random key, so that a restart ends them"
    )
    http_stored_mb: int = setting(
        256, "memory for images that are waiting to be fetched from these addresses, in MiB", at_least=1
    )
    max_candidates: int = setting(
        512, "most candidates of one request, and most images of one Decode or Rank", at_least=1
    )
    max_message_mb: int = setting(64, "largest gRPC message, in MiB, received or sent", at_least=1, at_most=2047)
    time_limit_s: float = setting(
        600.0, "longest time for one request, in seconds; a client's own deadline can only be shorter", above=0
    )
    drain_s: float = setting(
        120.0, "time that running requests get to end when the service is stopped, in seconds", at_least=0
    )
    decode_batch: int | None = setting(
        None,
        "images that the decoder decodes at once; auto: 8 on a GPU, 2 on a CPU, where more are no faster",
        at_least=1,
    )
    rank_batch: int = setting(8, "images that the reranker scores at once", at_least=1)
    log_format: str = setting("text", "text, or json: one object a line, with the request's id")
    gateways: int = setting(
        2,
        "gateway replicas, at most two on each node, where they share the port: one answers if the other is lost",
        at_least=1,
    )
    prior: PriorReplicaConfig = setting(PriorReplicaConfig, "the prior's replicas")
    decoder: ReplicaConfig = setting(ReplicaConfig, "the decoder's replicas")
    reranker: ReplicaConfig = setting(ReplicaConfig, "the reranker's replicas")

    def __post_init__(self) -> None:
        self.host = self.host.removeprefix("[").removesuffix("]")
        if self.log_format not in LOG_FORMATS:
            raise ValueError(f"log_format is {self.log_format!r}: use {' or '.join(LOG_FORMATS)}.")
        if not (self.tls.is_on or self.keys or self.insecure or is_own(self.host)):
            reached = f"host is {self.host}, which others may reach, and there is neither TLS nor keys"
            raise ValueError(f"{reached}: give tls.certificate and tls.key, or keys, or say insecure=true.")
        if self.http_port and self.tls.client_ca:
            raise ValueError(
                "http_port: HTTP cannot ask clients for certificates: leave tls.client_ca out, or use keys."
            )
        if len(set(self.model_names)) <= len(self.models):
            names = ", ".join(self.model_names)
            raise ValueError(f"models: {names} are not all different: give each a name of its own.")
        self._check_aliases()

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of this class by their names, without those of a class made from it."""
        return {each.name: getattr(self, each.name) for each in fields(ServeConfig)}

    @property
    def decode_batch_used(self) -> int:
        """The images that the decoder decodes at once: a batch is filled up, so a larger one costs one image more."""
        return self.decode_batch or (8 if self.decoder.gpus else 2)

    @property
    def runs(self) -> dict[str, str]:
        """The run directories by the names of their models, the default first."""
        return {name_of(self.run): self.run} | {named.name: named.run for named in self.models}

    @property
    def model_names(self) -> list[str]:
        """The names of the models, the default first."""
        return [name_of(self.run), *(named.name for named in self.models)]

    def _check_aliases(self) -> None:
        names = [alias.name for alias in self.aliases]
        if twice := {name for name in names if (names + self.model_names).count(name) > 1}:
            raise ValueError(f"aliases: {min(twice)} is the name of a model or there twice: choose another.")
        if unknown := {each.model for each in self.aliases} - {"", *self.model_names}:
            known = " or ".join(self.model_names)
            raise ValueError(f"aliases: there is no model {min(unknown)}: use {known}, or leave model out.")

    def address(self, port: int) -> str:
        """Return ``host:port``, an IPv6 host in brackets."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


@dataclass
class ModelConfig(ServeConfig):
    """The settings of one model's replicas; ``version`` says what their run has to hold, see :mod:`t2i.serve.runs`."""

    version: str = ""

    @classmethod
    def of(cls, config: ServeConfig, run: str, version: str) -> ModelConfig:
        """Return a service's settings for the replicas of one of its models."""
        return cls(**{**config.settings, "run": run, "models": [], "aliases": []}, version=version)


def name_of(run: str) -> str:
    """Return the name of a run's model: that in the model store, else the last part of its path.

    What a name may not have is ``-``.
    """
    inside = run.removeprefix(MODEL_STORE)
    name = run.rstrip("/").rpartition("/")[2] if inside == run else inside.partition("/")[0]
    return re.sub(r"[^\w.-]", "-", name, flags=re.ASCII) or "model"


def is_own(host: str) -> bool:
    """Return whether only this machine reaches what listens on a host; 0.0.0.0 and :: are every address that it has."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_name(name: str, field: str = "models") -> None:
    """Check the name of a model or a key.

    Raises:
        ValueError: it is empty or has other characters than it may.
    """
    if not re.fullmatch(r"[\w.-]{1,64}", name, flags=re.ASCII):
        raise ValueError(f"{field}: the name {name!r} is not possible: use up to 64 letters, digits, '.', '_' and '-'.")
