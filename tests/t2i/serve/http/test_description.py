"""The application holds to its OpenAPI description, whatever is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_no_input_breaks_the_description(http: str, tmp_path: Path) -> None:
    bounds = ["--max-time", "20", "--max-examples", "20", "--seed", "7", "--generation-database", "none"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{http}/openapi.json", "--checks", CHECKS, *bounds]
    done = subprocess.run(
        [*command, "--phases", "coverage,fuzzing", "--no-color", "--no-shrink"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_describes_what_there_is(http: str) -> None:
    description = httpx.get(f"{http}/openapi.json").json()
    assert set(description["paths"]) == {
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/images/{name}",
        "/v1/models",
        "/t2i/v1/generate",
    }
    assert "422" not in str(description)
