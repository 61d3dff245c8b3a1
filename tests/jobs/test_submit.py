"""What `make submit` sends to a cluster, and what it says where there is none that takes it."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

import submit
from models.errors import UserError

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "T2I_KEY")


NO_AGENT = b"Traceback (most recent call last):\n  File ...\nException: No available agent to submit job, try later.."
"""What Ray answers when a cluster has only just started."""


class Dashboard(ThreadingHTTPServer):
    """Answers as the dashboard of a cluster on which jobs succeed, but for ``refusals``: path -> status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.refusals: dict[str, int] = {}
        self.received: dict[str, bytes] = {}
        """Headers and body of the last request to each path."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def job(self) -> dict[str, Any]:
        """The job that was submitted."""
        found: dict[str, Any] = json.loads(self.received["/api/jobs/"].partition(b"\n\n")[2])
        return found

    @property
    def package(self) -> bytes:
        """What was uploaded."""
        name = self.job["runtime_env"]["working_dir"].replace("gcs://", "/api/packages/gcs/")
        return self.received[name].partition(b"\n\n")[2]


class Answers(BaseHTTPRequestHandler):
    server: Dashboard

    def do_GET(self) -> None:
        job = {"type": "SUBMISSION", "status": "SUCCEEDED", "entrypoint": ""}
        uploaded = self.path.startswith("/api/packages/")
        self.answer({"ray_version": "2.60.0"} if self.path == "/api/version" else job, 404 if uploaded else 200)

    def do_PUT(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        self.answer({"job_id": "1", "submission_id": "1"})

    def answer(self, answer: dict[str, str], status: int = 200) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received[self.path] = bytes(self.headers) + body
        refusal = self.server.refusals.get(self.path)
        self.send_response(refusal or status)
        self.end_headers()
        self.wfile.write(NO_AGENT if refusal else json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    """A dashboard; this process keeps its address and its Ray's token to itself, and follows no log."""

    async def follow(*_: Any) -> None:
        pass

    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    monkeypatch.setattr(submit, "maybe_enable_token_auth_if_token_available", lambda **_: False)
    monkeypatch.setattr(submit, "follow", follow)
    with Dashboard() as server:
        Thread(target=server.serve_forever, args=[0.01]).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("job", "address", "message"),
    [
        ("coco", "http://head:8265", r"^JOB is 'coco': use one of coco_eval, encode_images, .*, validate\.$"),
        ("", "http://head:8265", r"^JOB is '': use one of coco_eval, "),
        ("submit", "http://head:8265", r"^JOB is 'submit': "),
        ("coco_eval", "", r"^ADDRESS is '': give that of the cluster's dashboard, as in http://head:8265\.$"),
        ("coco_eval", "head:6379", r"^ADDRESS is 'head:6379': give that of the cluster's dashboard"),
        (
            "coco_eval",
            "http://127.0.0.1:1",
            r"^ADDRESS is http://127.0.0.1:1, and .* \(Failed to connect .*\): correct",
        ),
    ],
)
@pytest.mark.usefixtures("dashboard")
def test_a_job_or_an_address_that_is_none_is_refused(job: str, address: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        submit.main(job, address, [])


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (
            "/api/version",
            401,
            "asks for a token, and has refused this one or none: put what `ray get-auth-token` prints at its head",
        ),
        ("/api/version", 403, "asks for a token, and has refused this one or none"),
        ("/api/version", 404, "Ray did not take the job there (Version check returned 404"),
        ("/api/jobs/", 500, "(Exception: No available agent to submit job, try later): correct it, or try again once"),
    ],
)
def test_a_cluster_that_refuses_is_one_sentence(dashboard: Dashboard, path: str, status: int, message: str) -> None:
    dashboard.refusals[path] = status
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        submit.main("coco_eval", dashboard.url, [])
    assert "\n" not in str(caught.value)


def test_a_job_goes_with_its_words_and_the_code_alone(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"secret-{name}")
    assert submit.main("train_prior", dashboard.url, ["run=s3://bucket/my run", "train.steps=2"]) == 0

    job = dashboard.job
    assert job["entrypoint"] == "python jobs/train_prior.py 'run=s3://bucket/my run' train.steps=2"
    assert job["submission_id"].startswith("train_prior-")
    assert job["runtime_env"].keys() == {"working_dir"}
    assert "metadata" not in job or not job["metadata"]
    assert not [path for path, received in dashboard.received.items() if b"secret-" in received]

    assert f"uploading {len(dashboard.package) / 1e6:.1f} MB" in capsys.readouterr().out
    names = zipfile.ZipFile(io.BytesIO(dashboard.package)).namelist()
    assert {"jobs/train_prior.py", "platform/t2i/train/loop.py", "models/presets.py"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "jobs/datasets", "models/trained"))]
    assert len(dashboard.package) < 3e6  # as README says


def test_shipped_data_goes_along_where_it_is_read() -> None:
    shipped = {"/jobs/datasets", "/models/trained"}
    assert set(submit.unread("generate", ["run=s3://bucket/run"])) == shipped
    assert submit.unread("coco_eval", ["run=s3://bucket/run"]) == ["/models/trained"]
    assert submit.unread("coco_eval", ["run=models/trained/small"]) == []
    assert submit.unread("generate", ["run=models/trained/small"]) == ["/jobs/datasets"]
    assert submit.unread("generate", ["run=s3://b/r", "image=jobs/datasets/a.png"]) == ["/models/trained"]
