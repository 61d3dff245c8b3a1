"""The committed gRPC code is what the protos say."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc_tools import protoc

PLATFORM = Path(__file__).resolve().parents[3] / "platform"
PROTOS = sorted((PLATFORM / "t2i" / "protos" / "v1").glob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS, ids=lambda proto: proto.stem)
def test_is_up_to_date(proto: Path, tmp_path: Path) -> None:
    outputs = [f"--{kind}={tmp_path}" for kind in ("python_out", "grpc_python_out")]
    assert protoc.main(["protoc", f"--proto_path={PLATFORM}", *outputs, str(proto)]) == 0
    for suffix in ("_pb2.py", "_pb2_grpc.py"):
        name = f"t2i/protos/v1/{proto.stem}{suffix}"
        assert (PLATFORM / name).read_text() == (tmp_path / name).read_text(), f"run `make proto`: {name} is old"
