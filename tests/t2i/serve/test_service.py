"""The whole service on a real local Ray Serve, asked from outside over gRPC."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from t2i.client import Client, GeneratedImage, GenerationProgress, ServiceError
from t2i.client.models import add_model, list_models, remove_model
from t2i.protos.v1 import decoder_pb2, prior_pb2, reranker_pb2
from t2i.protos.v1.decoder_pb2_grpc import DecoderStub
from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.protos.v1.models_pb2 import ADD_STEP_SERVED
from t2i.protos.v1.prior_pb2_grpc import PriorStub
from t2i.protos.v1.reranker_pb2_grpc import RerankerStub
from t2i.sampling import SamplingParams
from t2i.serve.catalog import Catalog, app_of
from t2i.serve.config import Alias, PriorReplicaConfig, ReplicaConfig, ServeConfig, name_of
from t2i.serve.gateway import running_stages
from t2i.serve.generation.calls import Calls
from t2i.serve.generation.events import Event, Picture, Progress, Stage, Wanted
from t2i.serve.generation.generate import generate
from t2i.serve.generation.stages import StageHandles
from t2i.serve.launch import launch_service
from t2i.serve.messages import CaptionRequest
from t2i.serve.models import ServedModels
from t2i.serve.monitoring.declared import METRICS
from t2i.serve.replicas.prior import PriorReplica
from t2i.storage.model_store import Version
from tests.kept_models import keep, promote
from tests.ray_metrics import scrape
from tests.t2i.serve.monitoring.collector import Received, collector
from tests.t2i.serve.monitoring.test_declared import series
from tests.waiting import wait_until

pytestmark = pytest.mark.ray
Activity = Callable[[], dict[str, int]]
ROOT = Path(__file__).resolve().parents[3]
STAGES = ("prior", "decoder", "reranker")
ALWAYS = [
    metric
    for metric in METRICS
    if not any(word in metric.name for word in ("cancelled", "rejected", "failed", "wasted", "repeated"))
]
"""What every service tells that has answered a request with previews."""


@pytest.fixture(scope="module")
def address(
    ray_cluster: None,  # noqa: ARG001 - Serve runs on it
    run_directory: Path,
    spans: list[Received],  # noqa: ARG001 - to where the service sends its traces
) -> Iterator[str]:
    # Two versions of a model stand side by side on this machine.
    other = ReplicaConfig(cpus=0.1)
    prior = PriorReplicaConfig(ongoing=2, queued=2, cpus=0.1, dtype="float32", slots=4, threads=1)
    config = ServeConfig(
        run=str(run_directory),
        port=0,
        prior=prior,
        decoder=other,
        reranker=other,
        drain_s=4.0,
        aliases=[Alias("dall-e-3", name_of(str(run_directory)))],
    )
    with launch_service(config) as address:
        yield address


@pytest.fixture(scope="module")
def spans() -> Iterator[list[Received]]:
    """The spans that the service has sent."""
    with collector() as (endpoint, received), pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds between two deliveries
        yield received


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        wait_until(client.is_serving)
        yield client


@pytest.fixture
def activity(run_directory: Path) -> Callable[[], dict[str, int]]:
    """The prior's engine: steps made, requests inside, process."""
    from ray import serve

    prior = serve.get_deployment_handle("prior", app_of(name_of(str(run_directory))))
    return lambda: prior.activity.remote().result()


def test_answers_a_client_in_another_process(address: str, client: Client, tmp_path: Path) -> None:
    words = ["a red taco", "-n", "4", "-k", "2", "--seed", "7", "--out", str(tmp_path), "--server", address]
    command = [sys.executable, "-c", "from t2i.serve.cli import main; main()", "generate", *words]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    subprocess.run(command, env=environment, check=True, timeout=120)
    answer = client.generate("a red taco", candidates=4, keep=2, seed=7)
    assert [(tmp_path / f"7-00{rank}.png").read_bytes() for rank in (0, 1)] == [image.data for image in answer.images]


def test_streams_progress_and_the_same_images(client: Client) -> None:
    events = list(client.generate_stream("a red taco", candidates=4, keep=2, seed=7))
    done = [event.tokens_done for event in events if isinstance(event, GenerationProgress)]
    assert done == sorted(done)
    assert done[-1] == 4 * 64
    assert [e for e in events if isinstance(e, GeneratedImage)] == client.generate(
        "a red taco", candidates=4, keep=2, seed=7
    ).images


def test_names_its_services(address: str) -> None:
    services = ProtoReflectionDescriptorDatabase(grpc.insecure_channel(address)).get_services()
    stages = {"t2i.v1.Generation", "t2i.v1.Prior", "t2i.v1.Decoder", "t2i.v1.Reranker", "t2i.v1.Models"}
    assert stages | {"grpc.health.v1.Health"} <= set(services)


def test_the_stages_answer_on_their_own(address: str) -> None:
    channel = grpc.insecure_channel(address)
    events = list(PriorStub(channel).Sample(prior_pb2.SampleRequest(caption="a red taco", candidates=2, seed=7)))
    grids = [event.candidate.grid for event in events if event.HasField("candidate")]
    decoded = DecoderStub(channel).Decode(decoder_pb2.DecodeRequest(grids=grids))
    ranking = RerankerStub(channel).Rank(reranker_pb2.RankRequest(caption="a red taco", images=decoded.images))
    assert sorted(ranking.order) == [0, 1]


def test_lists_its_models(client: Client, run_directory: Path) -> None:
    (model,) = list_models(client).models
    assert (model.name, model.is_default, model.ready) == (name_of(str(run_directory)), True, True)
    assert client.generate("a red taco", seed=7).summary.models["decoder"] == model.setup.decoder.weights[:12]


def test_versions_of_the_model_store_come_and_go_back(client: Client, run_directory: Path, other_run: Path) -> None:
    first, second = (keep("kept", run) for run in (run_directory, other_run))

    def drawn_by(version: Version) -> bytes:
        promote(version)
        *_, last = add_model(client, "kept", "models://kept")
        assert last.step == ADD_STEP_SERVED
        answer = client.generate("a red taco", seed=7, model="kept", metadata=False)
        assert answer.summary.models["prior"] == version.models["prior"]
        return answer.images[0].data

    newer, older = drawn_by(second), drawn_by(first)
    remove_model(client, "kept")
    assert older == client.generate("a red taco", seed=7, metadata=False).images[0].data != newer


def test_a_refusal_by_a_replica_reaches_the_client(address: str) -> None:
    grid = prior_pb2.TokenGrid(height=1, width=2, image_tokens=[0, 32])
    with pytest.raises(grpc.RpcError) as caught:
        DecoderStub(grpc.insecure_channel(address)).Decode(decoder_pb2.DecodeRequest(grids=[grid]))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "grids has tokens outside of the codebook: use 0 to 31."


def test_cancelled_requests_leave_the_engine(client: Client, activity: Activity) -> None:
    before = activity()["steps"]
    for seed in range(10):
        events = client.generate_stream("a red taco", candidates=64, seed=seed)
        next(event for event in events if isinstance(event, GenerationProgress) and event.tokens_done > 0)
        events.close()
    wait_until(lambda: activity()["requests"] == 0)
    left = activity()["steps"]
    assert left - before < 10 * 64 * 64 / 4 / 2
    client.generate("a red taco", seed=7)
    assert activity()["steps"] - left <= 64 + 1


def test_a_passed_deadline_ends_the_work(client: Client, activity: Activity) -> None:
    with pytest.raises(ServiceError) as caught:
        client.generate("a red taco", candidates=64, timeout=0.3)
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: activity()["requests"] == 0)


def test_overload_is_refused(client: Client) -> None:
    def ask(seed: int) -> grpc.StatusCode:
        try:
            client.generate("a red taco", candidates=16, seed=seed)
        except ServiceError as error:
            return error.code
        return grpc.StatusCode.OK

    with ThreadPoolExecutor(12) as threads:
        codes = list(threads.map(ask, range(12)))
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_prometheus_reads_the_metrics_of_gateways_and_replicas(client: Client, run_directory: Path) -> None:
    list(client.generate_stream("a red taco", candidates=4, keep=2, seed=7, preview_rows=2))
    name, found = name_of(str(run_directory)), dict[str, list[Sample]]()

    def missing() -> set[str]:
        found.clear()
        for family in text_string_to_metric_families(scrape()):
            for sample in family.samples:  # of this service alone: Ray keeps what others before it have counted
                if sample.labels.get("deployment") and sample.labels.get("model", name) == name:
                    found.setdefault(sample.name, []).append(sample)
        return set().union(*(series(metric) for metric in ALWAYS)) - found.keys()

    with suppress(AssertionError):
        wait_until(lambda: not missing())
    assert missing() == set()
    for metric in ALWAYS:
        for sample in (each for one in series(metric) for each in found[one]):
            assert {*metric.labels, "deployment", "application", "replica"} <= set(sample.labels)
    assert sum(sample.value for sample in found["ray_t2i_slots"]) == 4
    assert {(s.labels["stage"], s.value) for s in found["ray_t2i_stage_ready"]} == {(stage, 1.0) for stage in STAGES}
    assert sum(sample.value for sample in found["ray_t2i_generation_tokens_total"]) >= 4 * 64


def test_spans_of_gateway_and_replicas_are_one_trace(address: str, spans: list[Received]) -> None:
    trace = uuid.uuid4().hex
    request = GenerateRequest(caption="a red taco", candidates=2, seed=7)
    parent = (("traceparent", f"00-{trace}-b7ad6b7169203331-01"),)
    GenerationStub(grpc.insecure_channel(address)).Generate(request, metadata=parent)
    sources = {"prior.sample": "prior", "decoder.decode": "decoder", "reranker.rank": "reranker"}
    sources |= dict.fromkeys(("request", "queue", "sample", "rank", "encode"), "gateway")
    wait_until(lambda: {span.name for span in spans if span.trace == trace} >= sources.keys())
    ours = [span for span in spans if span.trace == trace and span.name in sources]
    assert {span.name: span.component for span in ours} == sources
    (root,) = (span for span in ours if span.name == "request")
    assert root.parent == "b7ad6b7169203331"
    assert {span.parent for span in ours if span is not root} == {root.span}


def test_a_killed_replica_is_not_noticed(client: Client, activity: Activity) -> None:
    expected = client.generate("a red taco", candidates=64, keep=3, seed=7)
    events = client.generate_stream("a red taco", candidates=64, keep=3, seed=7)
    seen: list[Any] = [
        next(event for event in events if isinstance(event, GenerationProgress) and event.tokens_done > 100)
    ]
    os.kill(activity()["process"], signal.SIGKILL)
    seen.extend(events)
    done = [event.tokens_done for event in seen if isinstance(event, GenerationProgress) and event.stage == "sample"]
    assert [event for event in seen if isinstance(event, GeneratedImage)] == expected.images
    assert done == sorted(set(done))
    assert seen[-1].tokens_spent > expected.summary.tokens_spent


def test_a_request_starts_a_prior_that_sleeps(client: Client, run_directory: Path) -> None:
    from ray import serve

    awake = name_of(str(run_directory))
    pinned = {"dtype": "float32", "slots": 4, "threads": 1}
    prior = PriorReplicaConfig(min_replicas=0, idle_s=0, cpus=0.1, **pinned)  # type: ignore[arg-type]
    deployment = serve.deployment(name="prior", **prior.options())(PriorReplica)
    app = deployment.bind(ServeConfig(run=str(run_directory), prior=prior))
    serve.run(app, name=app_of("asleep"), route_prefix=None)
    try:
        wait_until(lambda: not serve.status().applications[app_of("asleep")].deployments["prior"].replica_states)
        assert running_stages({"asleep": app_of("asleep")}) == {"asleep": {"prior"}}
        models = ServedModels()
        models.set(Catalog({name: app_of(name) for name in (awake, "asleep")}))
        stages = replace(models.find(awake).stages, prior=models.find("asleep").stages.prior)
        events = asyncio.run(drawn(stages, "a red taco", seed=7))
    finally:
        serve.delete(app_of("asleep"))
    (picture,) = (event for event in events if isinstance(event, Picture))
    assert isinstance(events[0], Progress)
    assert events[0].stage == Stage.STARTING
    assert picture.data == client.generate("a red taco", seed=7, metadata=False).images[0].data


async def drawn(stages: StageHandles, caption: str, seed: int) -> list[Event]:
    """What comes of a request for one image, asked without a gateway."""
    calls = Calls(time.time() + 300)
    wanted = CaptionRequest(calls.id, "", caption, 1, seed, SamplingParams(), (), calls.deadline)
    return [event async for event in generate(stages, Wanted(wanted, 1, "png", metadata=False), calls)]
