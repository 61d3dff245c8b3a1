"""Pushes into the model store: whole or nothing, whoever else pushes and whenever one is killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.manifest import CheckpointError, verify
from models.run_layout import RunLayout
from t2i.storage import DataError, delete_folder, fetch_run, filesystem_for, model_push, put_directory
from t2i.storage.model_push import push
from t2i.storage.model_store import ModelStore, Version
from t2i.storage.transfer import upload
from tests.processes import start
from tests.t2i.storage.faulty_store import FaultyStore

pytestmark = pytest.mark.usefixtures("own_cache")

KILLED = """
import os, signal, sys
from t2i.storage import directories, model_push
from t2i.storage.model_store import ModelStore

place, name, wanted, address, *words = sys.argv[1:]
module = {"push": model_push, "pull": directories}[place]
function, calls = getattr(module, name), []

def killing(*arguments, **named):
    calls.append(name)
    if len(calls) == int(wanted):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **named)

setattr(module, name, killing)
store = ModelStore(address)
model_push.push(store, *words) if place == "push" else store.pull(*words)
"""
"""A push or pull that is killed when it calls a function for the n-th time."""

FILES = 11
"""How many files a version of the tiny run has, which has neither card nor records."""


def killed(*words: str) -> None:
    process = start([sys.executable, "-c", KILLED, *words], stdout=subprocess.DEVNULL)
    assert process.wait(timeout=300) == -signal.SIGKILL


def whole(store: ModelStore, name: str, folder: Path) -> Version:
    """The version of a name, pulled and checked file by file."""
    version = store.pull(name, folder)
    assert verify(folder) == version.files
    return version


def at_once(store: ModelStore, wanted: str, runs: Sequence[Path]) -> list[Version | str]:
    """What pushes of these runs, made side by side, return or say."""

    def result(run: Path) -> Version | str:
        try:
            return push(store, wanted, str(run))
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(len(runs)) as threads:
        return list(threads.map(result, runs))


def test_the_same_content_is_there_once(
    model_store: ModelStore, tiny_run: Path, carded_run: Path, tmp_path: Path
) -> None:
    first = push(model_store, "small", str(tiny_run))
    push(model_store, "small", str(carded_run))
    copy = shutil.copytree(tiny_run, tmp_path / "moved")
    assert push(model_store, "small", str(copy)) == push(model_store, "small/1", str(copy)) == first
    assert model_store.versions("small") == ["1", "2"]


def test_what_is_there_is_not_written_again(
    model_store: ModelStore, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = push(model_store, "small", str(tiny_run))
    for name in ("upload", "write_file"):
        monkeypatch.setattr(model_push, name, None)  # whoever wrote again would fail
    assert push(model_store, "small", str(tiny_run)) == version


def test_other_content_is_refused_by_what_differs(
    model_store: ModelStore, tiny_run: Path, carded_run: Path, tmp_path: Path
) -> None:
    version = push(model_store, "small/1", str(tiny_run))
    records = r"README\.md, dvae/config\.yaml, prior/config\.yaml"
    with pytest.raises(DataError, match=rf"small/1 is there with other content \({records}\): push another version"):
        push(model_store, "small/1", str(carded_run))
    assert whole(model_store, "small/1", tmp_path / "pulled") == version


def test_a_run_in_a_store_is_pushed(model_store: ModelStore, carded_run: Path, tmp_path: Path) -> None:
    run = f"memory://{tmp_path.name}/run"
    for name, folder in RunLayout(carded_run).models.items():
        put_directory(folder, RunLayout(run).models[name])
    stored, path = filesystem_for(run)
    for name in ("README.md", "prior/config.yaml", "dvae/config.yaml"):
        stored.pipe_file(f"{path}/{name}", (carded_run / name).read_bytes())
    assert push(model_store, "small", run) == push(model_store, "small", str(carded_run))
    assert push(model_store, "copy", "models://small/1").files == model_store.find("small/1").files


def test_a_run_that_is_not_whole_is_refused(model_store: ModelStore, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    Path(RunLayout(run).clip, "weights.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"clip/model/weights\.safetensors is missing or damaged"):
        push(model_store, "small", str(run))
    shutil.rmtree(RunLayout(run).clip)
    with pytest.raises(CheckpointError, match="clip/model is not a complete checkpoint"):
        push(model_store, "small", str(run))
    assert model_store.begun("small") == []


def test_a_file_that_changes_meanwhile_makes_no_version(
    model_store: ModelStore, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_push, "upload", lambda *_: "another hash")
    with pytest.raises(DataError, match="has changed while it was pushed: push it again"):
        push(model_store, "small", str(tiny_run))
    assert model_store.versions("small") == []


def test_a_version_that_is_being_pushed_takes_no_other_content(
    model_store: ModelStore, tiny_run: Path, carded_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile: list[Version] = []

    def interrupted(*arguments: object) -> str:
        monkeypatch.setattr(model_push, "upload", upload)
        with pytest.raises(
            DataError, match=r"small/1 is not whole, and was begun with other content .*or delete .*/small/1"
        ):
            push(model_store, "small/1", str(carded_run))
        meanwhile.append(push(model_store, "small", str(carded_run)))
        return upload(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(model_push, "upload", interrupted)
    first = push(model_store, "small", str(tiny_run))
    assert (first.version, [each.version for each in meanwhile]) == ("1", ["2"])
    assert whole(model_store, "small/1", tmp_path / "1") == first
    assert whole(model_store, "small/2", tmp_path / "2") == meanwhile[0]


@pytest.mark.parametrize(
    ("name", "call"), [("create_file", 1), ("upload", 1), ("upload", FILES // 2), ("upload", FILES), ("write_file", 1)]
)
def test_a_push_killed_anywhere_is_not_there_and_the_same_again_completes_it(
    local_store: ModelStore, tiny_run: Path, tmp_path: Path, name: str, call: int
) -> None:
    killed("push", name, str(call), local_store.address, "small", str(tiny_run))
    assert (local_store.names(), local_store.versions("small")) == ([], [])
    with pytest.raises(DataError, match=r"models://small/1 is not in .*: it has no models"):
        local_store.pull("small/1", tmp_path / "pulled")
    assert push(local_store, "small", str(tiny_run)).version == "1"
    assert len(whole(local_store, "small/1", tmp_path / "pulled").files) == FILES


def test_what_a_killed_push_has_begun_is_given_up_by_deleting_it(
    local_store: ModelStore, tiny_run: Path, carded_run: Path, tmp_path: Path
) -> None:
    killed("push", "upload", "2", local_store.address, "small/1", str(tiny_run))
    assert push(local_store, "small", str(carded_run)).version == "2"
    with pytest.raises(DataError, match=rf"push that again, or delete {local_store.address}/small/1, or push another"):
        push(local_store, "small/1", str(carded_run))
    delete_folder(local_store.filesystem, f"{local_store.root}/small/1")
    push(local_store, "small/1", str(carded_run))
    assert whole(local_store, "small/1", tmp_path / "pulled").files == local_store.find("small/2").files


@pytest.mark.parametrize(("name", "call"), [("download", 1), ("download", FILES), ("verify", 1)])
def test_a_pull_killed_anywhere_leaves_nothing_to_be_seen_and_the_same_again_completes_it(
    local_store: ModelStore, tiny_run: Path, tmp_path: Path, name: str, call: int
) -> None:
    push(local_store, "small", str(tiny_run))
    pulled = tmp_path / "here/pulled"
    killed("pull", name, str(call), local_store.address, "small/1", str(pulled))
    assert all(left.name.startswith(".pulled.") for left in pulled.parent.iterdir())
    whole(local_store, "small/1", pulled)


def test_of_two_that_push_a_version_at_once_one_has_it(
    local_store: ModelStore, tiny_run: Path, carded_run: Path, tmp_path: Path
) -> None:
    for number in range(5):
        wanted = f"small/{number}"
        results = at_once(local_store, wanted, [tiny_run, carded_run])
        (said,) = (each for each in results if isinstance(each, str))
        assert "other content (README.md, dvae/config.yaml, prior/config.yaml)" in said
        assert whole(local_store, wanted, tmp_path / wanted) in results


def test_of_two_that_push_the_next_version_at_once_each_has_one(
    local_store: ModelStore, tiny_run: Path, carded_run: Path, tmp_path: Path
) -> None:
    for number in range(5):
        first, second, same = at_once(local_store, f"small{number}", [tiny_run, carded_run, tiny_run])
        assert isinstance(first, Version)
        assert isinstance(second, Version)
        assert ({first.version, second.version}, same) == ({"1", "2"}, first)
        for version in (first, second):
            assert whole(local_store, version.path, tmp_path / version.path) == version


def test_an_s3_store_keeps_the_same_promises(bucket: str, tiny_run: Path, carded_run: Path, tmp_path: Path) -> None:
    store = ModelStore(f"{bucket}/models")
    killed("push", "upload", str(FILES // 2), store.address, "small", str(tiny_run))
    assert (store.names(), store.begun("small")) == ([], ["1"])
    first, second = at_once(store, "small", [tiny_run, carded_run])
    assert isinstance(first, Version)
    assert isinstance(second, Version)
    assert (first.version, second.version) == ("1", "2")
    results = at_once(store, "small/3", [tiny_run, carded_run])
    assert store.find("small/3") in results
    assert sum(isinstance(each, str) for each in results) == 1
    killed("pull", "download", str(FILES // 2), store.address, "small/1", str(tmp_path / "pulled"))
    assert not (tmp_path / "pulled").exists()
    for version in ("1", "2", "3"):
        whole(store, f"small/{version}", tmp_path / version)
    store.filesystem.pipe_file(f"{store.root}/small/1/clip/model/config.yaml", b"damaged")
    with pytest.raises(CheckpointError, match=f"{store.address}/small/1/clip/model/config.yaml is missing or damaged"):
        store.pull("small/1", tmp_path / "pulled")


def test_a_version_of_an_s3_store_is_served_from_a_copy(
    bucket: str, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2I_MODEL_STORE", f"{bucket}/models")
    version = push(ModelStore(f"{bucket}/models"), "small", str(tiny_run))
    assert verify(fetch_run("models://small/1")) == version.files


def test_an_answer_that_is_lost_costs_nothing(bucket: str, store: FaultyStore, tiny_run: Path, tmp_path: Path) -> None:
    kept = ModelStore(f"{bucket}/models")
    for file in ("_push.json", "manifest.json"):
        store.fail("lost", only=f"PUT {filesystem_for(kept.address)[1]}/small/1/{file}")
        push(kept, "small", str(tiny_run))
    whole(kept, "small/1", tmp_path / "pulled")
