"""Sets behind a web server, which can only be read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.manifest import verify, write_manifest
from t2i.storage import DataError, arrow_filesystem, fetch_directory, filesystem_for, list_files, read_file, write_file


class Pages(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of ``tmp_path / "site"``, with pages for its folders; the server cannot send parts of a file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "site/set #2").mkdir(parents=True)
    for number in range(3):
        pq.write_table(pa.table({"id": [str(number)]}), tmp_path / f"site/set #2/{number}.parquet")
    (tmp_path / "site/set #2/notes.txt").write_text("notes")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "ids"),
    [("set #2/", "012"), ("set #2/1.parquet", "1"), ("set #2/[02].parquet", "02"), ("set%20%232/0.parquet?v=1", "0")],
)
def test_a_file_a_folder_and_a_glob_are_read(site: str, path: str, ids: str) -> None:
    filesystem, files = list_files(f"{site}/{path}", ".parquet")
    tables = [pq.read_table(file, filesystem=arrow_filesystem(filesystem)) for file in files]
    assert [table["id"][0].as_py() for table in tables] == list(ids)


def test_a_directory_is_fetched(site: str, tmp_path: Path) -> None:
    write_manifest(tmp_path / "site/set #2")
    assert verify(fetch_directory(f"{site}/set #2/")) == verify(tmp_path / "site/set #2")


def test_what_is_missing_or_cannot_be_written_is_said(site: str) -> None:
    with pytest.raises(DataError, match=r"^path is .*: it cannot be used \(there is no such file: '.*/none'\)\.$"):
        read_file(f"{site}/none")
    with pytest.raises(DataError, match=r"^path is .*: there is no such file or folder\.$"):
        list_files(f"{site}/none", ".tar")
    with pytest.raises(OSError, match="Read-only file system"):
        write_file(*filesystem_for(f"{site}/a"), b"a")
