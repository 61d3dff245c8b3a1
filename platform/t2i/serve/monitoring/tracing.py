"""Traces by OpenTelemetry, if the standard variables name an endpoint; else nothing is imported nor done.

The span ``request``, of a gateway or the HTTP door, is a child of its caller's (header ``traceparent``). Its children
are ``queue``, ``sample``, ``rank`` and ``encode``, one after the other, and the calls of replicas, such as
``prior.sample``, ``decoder.decode`` and ``reranker.rank``, in these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from models.errors import UserError
from t2i.serve.monitoring.outcome import ANSWERED, End, Outcome

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
TRACE_HEADERS = ("traceparent", "tracestate")

_tracer: Any = None
"""OpenTelemetry's tracer; None: no traces."""


def is_wanted() -> bool:
    """Return whether the environment asks for traces."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    return not off and any(os.environ.get(name) for name in ENDPOINTS)


def check_tracing() -> None:
    """Check that traces can be sent, if the environment asks for them.

    Raises:
        UserError: the exporter is not installed, or another protocol is asked for.
    """
    if not is_wanted():
        return
    protocol = next((os.environ[name] for name in PROTOCOLS if os.environ.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        raise UserError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: traces are sent by {PROTOCOL}, so name that.")
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: F401
    except ImportError as error:
        asked = next(name for name in ENDPOINTS if os.environ.get(name))
        remedy = "pip install 't2i-platform[otlp]', or unset it"
        raise UserError(f"{asked} is set, but OpenTelemetry's exporter is not installed: {remedy}.") from error


def start_tracing(component: str) -> None:
    """Send this process's spans to the endpoint that the environment names, if any.

    A provider that is there already, such as that of Serve's own tracing, is used as it is.

    Raises:
        UserError: as :func:`check_tracing`.
    """
    global _tracer
    if not is_wanted():
        return
    check_tracing()
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        named = Resource({"service.name": "t2i", "t2i.component": component})
        provider = TracerProvider(resource=Resource.create().merge(named).merge(OTELResourceDetector().detect()))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    _tracer = trace.get_tracer("t2i")


def variables_to_hand_on() -> dict[str, str]:
    """Return OpenTelemetry's variables of this process for its replicas, which may be on other nodes.

    Headers are left out: they may hold credentials, and Ray shows the variables of its actors.
    """
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_") and "HEADERS" not in name}


def trace_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return those of a request's headers or metadata that say which trace it belongs to."""
    return {name: str(headers[name]) for name in TRACE_HEADERS if name in headers}


def current_headers() -> dict[str, str]:
    """Return the current span as headers, for a call of another process."""
    headers: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry import propagate

        propagate.inject(headers)
    return headers


def start_span(name: str, headers: Mapping[str, str] | None = None) -> Any:
    """Return a new span (None without traces): a child of the current one, else of the one that ``headers`` name."""
    if _tracer is None:
        return None
    from opentelemetry import propagate, trace

    is_inner = trace.get_current_span().get_span_context().is_valid
    if is_inner or headers is None:
        return _tracer.start_span(name)
    return _tracer.start_span(name, propagate.extract(headers), trace.SpanKind.SERVER)


def make_current(span: Any) -> None:
    """Make a span the parent of what this task and those that it starts do from now on."""
    # It stays so until the task ends. To take it back would fail where an asynchronous generator is closed by another
    # task than the one that ran it.
    if span is not None:
        from opentelemetry import context, trace

        context.attach(trace.set_span_in_context(span))


def end_span(span: Any, outcome: Outcome = ANSWERED, **attributes: str) -> None:
    """End a span; one that failed says for what reason, and nothing of the exception."""
    if span is None:
        return
    from opentelemetry.trace import StatusCode

    span.set_attributes({**attributes, "t2i.outcome": outcome.end.value})
    if outcome.end is not End.ANSWERED:
        span.set_attribute("error.type", outcome.reason)
    if outcome.end is End.FAILED:
        span.set_status(StatusCode.ERROR)
    span.end()
