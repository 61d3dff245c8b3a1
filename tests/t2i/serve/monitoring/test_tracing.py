"""Spans of a request, by both doors and in the replicas; what they need, and that they cost nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from models.errors import UserError
from t2i.client import Client, ServiceError
from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.serve.http.limits import HttpLimits
from t2i.serve.monitoring import tracing
from t2i.serve.monitoring.origin import Origin, for_request
from tests.t2i.serve.http.conftest import serve_http

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that have ended, of a tracer of this test alone."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("tests"))
    yield exporter
    provider.shutdown()


def by_grpc(service: Any) -> None:
    request = GenerateRequest(caption="a red taco", candidates=3, seed=7)
    metadata = (("traceparent", TRACEPARENT), ("x-request-id", "mine"))
    GenerationStub(grpc.insecure_channel(service.address)).Generate(request, metadata=metadata)


def by_http(service: Any) -> None:
    limits = HttpLimits(max_candidates=64, time_limit_s=60, max_body_mb=1)
    fields = {"prompt": "a red taco", "candidates": 3, "seed": 7}
    headers = {"traceparent": TRACEPARENT, "x-request-id": "mine"}
    with serve_http(service, limits) as http:
        answer = httpx.post(f"{http}/v1/images/generations", json=fields, headers=headers, timeout=None)
    assert answer.status_code == 200


def ended(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """The spans by name, once that of the request has ended."""
    end = time.monotonic() + 60
    while "request" not in (found := {span.name: span for span in spans.get_finished_spans()}):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("ask", [by_grpc, by_http])
def test_a_request_is_traced_through_all_stages(service: Any, spans: InMemorySpanExporter, ask: Any) -> None:
    ask(service)
    found = ended(spans)
    request = found.pop("request")
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.kind is SpanKind.SERVER
    assert request.attributes is not None
    assert (request.attributes["t2i.request_id"], request.attributes["t2i.model"]) == ("mine", "tiny")
    stages = {"queue", "sample", "rank", "encode", "prior.sample", "decoder.decode", "reranker.rank"}
    assert stages <= set(found)
    for span in found.values():
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
    begins = [found[name].start_time or 0 for name in ("queue", "sample", "rank", "encode")]
    assert begins == sorted(begins)


def test_what_replicas_are_handed_makes_their_spans_children(spans: InMemorySpanExporter) -> None:
    """In another process there is no current span: only the headers lead to the request's."""

    @for_request("decoder")
    async def decode(**_: Any) -> None: ...

    asyncio.run(decode(origin=Origin("mine", {"traceparent": TRACEPARENT})))
    (span,) = spans.get_finished_spans()
    assert span.parent is not None
    assert (f"{span.parent.span_id:016x}", span.name) == (PARENT, "decoder.decode")


def test_a_caller_s_mistake_is_no_error_and_a_deadline_is(service: Any, spans: InMemorySpanExporter) -> None:
    with Client(service.address) as client:
        with pytest.raises(ServiceError):
            client.generate("")
        request = ended(spans)["request"]
        assert request.attributes is not None
        assert (request.attributes["error.type"], request.status.status_code) == ("invalid", StatusCode.UNSET)
        spans.clear()
        with pytest.raises(ServiceError):
            client.generate("a red taco", candidates=64, timeout=0.3)
    request = ended(spans)["request"]
    assert request.attributes is not None
    assert (request.attributes["error.type"], request.status.status_code) == ("deadline", StatusCode.ERROR)


def test_without_an_endpoint_nothing_is_imported() -> None:
    code = """
import sys
from t2i.serve.monitoring import tracing
before = {name for name in sys.modules if "opentelemetry" in name}
tracing.start_tracing("gateway")
span = tracing.start_span("request", {})
tracing.make_current(span)
tracing.end_span(span)
assert tracing.current_headers() == {}
assert {name for name in sys.modules if "opentelemetry" in name} == before
"""
    environment = {"PATH": "/usr/bin", "PYTHONPATH": ":".join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_missing_exporter_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(
        UserError, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT is set, but .* pip install 't2i-platform\[otlp\]'"
    ):
        tracing.check_tracing()


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(UserError, match=r"PROTOCOL is grpc: traces are sent by http/protobuf"):
        tracing.check_tracing()


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_the_standard_variables_turn_traces_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    assert tracing.is_wanted()
    monkeypatch.setenv(name, value)
    assert not tracing.is_wanted()


def test_replicas_get_the_variables_but_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    assert tracing.variables_to_hand_on()[ENDPOINT] == "http://127.0.0.1:4318"
    assert "secret" not in str(tracing.variables_to_hand_on())
