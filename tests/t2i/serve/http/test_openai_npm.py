"""OpenAI's Images API, asked by OpenAI's own JavaScript client."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.images import half_transparent

HERE = Path(__file__).parent / "node"


@pytest.mark.skipif(not shutil.which("node"), reason="this machine has no node")
def test_the_npm_package_understands_the_service(http: str, service: Any, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(half_transparent(64, clear_from=32))
    words = ["node", "client.js", f"{http}/v1", str(tmp_path / "image.png")]
    done = subprocess.run(words, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n`make test` installs the package in {HERE}."
    told = json.loads(done.stdout)
    completed = [each for each in told["stream"] if each["type"] == "image_generation.completed"]
    assert [each["b64_json"] for each in completed] == told["whole"]
    assert told["stream"][0]["type"] == "image_generation.partial_image"
    assert completed[-1]["usage"]["output_tokens"] == 3 * 64
    assert told["edit"] == 1
    assert told["refusals"] == [
        {"status": 400, "param": "n", "code": "invalid_value", "kind": "BadRequestError"},
        {"status": 400, "param": "steps", "code": "unknown_parameter", "kind": "BadRequestError"},
        {"status": 404, "param": "model", "code": "model_not_found", "kind": "NotFoundError"},
    ]
    while service.activity()["requests"]:  # of the stream that the client left
        pass
