"""Messages of any form, to all RPCs and over HTTP: none is an internal error, and no answer tells what runs here."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.images import encode, random_pixels
from tests.soak import scaled
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import SoakService

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(3600)]
MESSAGES = scaled(20_000)
HTTP_SECONDS = scaled(300)
LIMIT_S = 0.3
EXPECTED = {"OK", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
INSIDE = re.compile(r"Traceback|\.py\b|site-packages|\bray::|Error\(|0x[0-9a-f]{6}")
"""What only somebody who runs the service should see."""

PICTURE = encode(Image.fromarray(random_pixels(8, 8)))
FD = FieldDescriptor
VALUES: dict[int, st.SearchStrategy[Any]] = {
    FD.TYPE_STRING: st.sampled_from(["a red taco", "", "a" * 5000, "\0"]) | st.text(),
    FD.TYPE_BYTES: st.sampled_from([PICTURE, PICTURE[:50], b""]) | st.binary(),
    FD.TYPE_INT32: st.integers(-2, 9) | st.integers(-(2**31), 2**31 - 1),
    FD.TYPE_INT64: st.integers(-2, 9) | st.integers(-(2**63), 2**63 - 1),
    FD.TYPE_FLOAT: st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(width=32),
    FD.TYPE_BOOL: st.booleans(),
    FD.TYPE_ENUM: st.integers(-1, 9),
}


def methods() -> Iterator[MethodDescriptor]:
    """All methods of the services of t2i.v1."""
    for name in ("generation", "prior", "decoder", "reranker", "models"):
        for service in import_module(f"t2i.protos.v1.{name}_pb2").DESCRIPTOR.services_by_name.values():
            yield from service.methods


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    one = fields(field.message_type) if field.message_type else VALUES[field.type]
    return st.lists(one, max_size=4) if field.is_repeated else one


def fields(message: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={field.name: values(field) for field in message.fields})


def wires(method: MethodDescriptor) -> st.SearchStrategy[bytes]:
    """Messages of a method on the wire: of any values, with a byte changed, cut off, or no message at all."""
    make = GetMessageClass(method.input_type)
    right = fields(method.input_type).map(lambda given: make(**given).SerializeToString())
    changed = st.builds(lambda wire, at, byte: wire[: at % (len(wire) + 1)] + byte + wire[at:], right, AT, BYTE)
    return right | changed | st.builds(lambda wire, at: wire[:at], right, AT) | st.binary()


AT, BYTE = st.integers(0, 200), st.binary(min_size=1, max_size=1)
CALLS = st.one_of(*(st.tuples(st.just(method), wires(method)) for method in methods()))


def test_no_message_is_an_internal_error(service: SoakService, note: Note) -> None:
    codes: Counter[str] = Counter()
    channel = grpc.insecure_channel(service.grpc)

    @settings(max_examples=MESSAGES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(CALLS)
    def try_one(call: tuple[MethodDescriptor, bytes]) -> None:
        code, details = send(channel, *call)
        codes[code] += 1
        assert code in EXPECTED
        assert not INSIDE.search(details)

    processes = set(service.megabytes())
    try_one()
    note("random messages to all RPCs", str(sum(codes.values())), ", ".join(f"{n} {c}" for c, n in codes.most_common()))
    assert set(service.megabytes()) == processes, "a process was lost"


def send(channel: grpc.Channel, method: MethodDescriptor, wire: bytes) -> tuple[str, str]:
    """Return the status of a call, and its words."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.server_streaming:
            list(channel.unary_stream(path)(wire, timeout=LIMIT_S))
        else:
            channel.unary_unary(path)(wire, timeout=LIMIT_S)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def test_no_input_over_http_is_an_internal_error(service: SoakService, note: Note, tmp_path: Path) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    bounds = ["--max-time", str(HTTP_SECONDS), "--max-examples", "100000", "--generation-database", "none"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.http}/openapi.json", "--checks", checks]
    words = ["--phases", "fuzzing", "--no-color", "--no-shrink", "--seed", "7", "--request-timeout", "20"]
    done = subprocess.run([*command, *bounds, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    generated = re.search(r"(\d+) generated", done.stdout)
    note("random requests over HTTP (schemathesis)", generated[1] if generated else "?", f"exit code {done.returncode}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not INSIDE.search(done.stdout)
