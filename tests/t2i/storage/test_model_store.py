"""Runs kept as versions of a model: found by their names, promoted, pulled whole, fetched like any run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.manifest import CheckpointError, model_hash, verify
from models.run_layout import RunLayout
from t2i.storage import (
    DataError,
    delete_file,
    directories,
    exact_run,
    fetch_run,
    file_info,
    filesystem_for,
    read_file,
    write_file,
)
from t2i.storage.model_push import push
from t2i.storage.model_store import PROMOTED, ModelStore

pytestmark = pytest.mark.usefixtures("own_cache")


def write(address: str, data: bytes) -> None:
    write_file(*filesystem_for(address), data)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_version_is_a_run_with_its_card_records_and_hashes(model_store: ModelStore, carded_run: Path) -> None:
    version = push(model_store, "small", str(carded_run))
    assert version == model_store.find("small/1")
    hashes = {name: model_hash(folder) for name, folder in RunLayout(carded_run).models.items()}
    assert version.models == hashes
    assert str(version).startswith(f"models://small/1 (tokenizer {hashes['tokenizer']}, dvae {hashes['dvae']}, prior")
    wanted = {name: data for name, data in content(carded_run).items() if "checkpoints" not in name}
    assert {name: read_file(f"{model_store.address}/small/1/{name}") for name in version.files} == wanted
    assert {"README.md", "dvae/config.yaml", "prior/config.yaml"} <= set(wanted)


def test_a_pulled_version_is_what_was_pushed(model_store: ModelStore, carded_run: Path, tmp_path: Path) -> None:
    version = push(model_store, "small", str(carded_run))
    pulled = tmp_path / "new" / "pulled"
    assert model_store.pull("small/1", pulled) == version
    assert verify(pulled) == version.files
    assert {name: (carded_run / name).read_bytes() for name in version.files} | {
        "manifest.json": read_file(f"{model_store.address}/small/1/manifest.json")
    } == content(pulled)
    assert [file.name for file in pulled.parent.iterdir()] == ["pulled"]


def test_a_folder_that_has_the_version_is_checked_and_any_other_is_left_alone(
    model_store: ModelStore, tiny_run: Path, tmp_path: Path
) -> None:
    push(model_store, "small", str(tiny_run))
    model_store.pull("small/1", tmp_path / "pulled")
    model_store.pull("small/1", tmp_path / "pulled")
    weights = tmp_path / "pulled/prior/model/weights.safetensors"
    weights.write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"pulled/prior/model/weights\.safetensors is missing or damaged"):
        model_store.pull("small/1", tmp_path / "pulled")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine").write_text("mine")
    with pytest.raises(DataError, match="other holds something else than small/1: name another folder"):
        model_store.pull("small/1", tmp_path / "other")
    assert content(tmp_path / "other") == {"mine": b"mine"}
    with pytest.raises(DataError, match="mine"):
        model_store.pull("small/1", tmp_path / "other/mine")


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_file_of_the_store_is_named(
    model_store: ModelStore, carded_run: Path, tmp_path: Path, damage: str
) -> None:
    push(model_store, "small", str(carded_run))
    card = f"{model_store.address}/small/1/README.md"
    if damage == "changed":
        write(card, b"another card")
    else:
        delete_file(*filesystem_for(card))
    with pytest.raises(CheckpointError, match=f"{card} is missing or damaged"):
        model_store.pull("small/1", tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_a_name_alone_means_the_promoted_version(model_store: ModelStore, tiny_run: Path, carded_run: Path) -> None:
    first, second = push(model_store, "small", str(tiny_run)), push(model_store, "small", str(carded_run))
    assert (first.version, second.version) == ("1", "2")
    assert model_store.promote("small", "2") == second
    assert (model_store.find("small"), model_store.promoted("small")) == (second, "2")
    model_store.promote("small", "1")
    assert model_store.find("models://small") == first


def test_versions_are_listed_in_the_order_of_their_numbers(model_store: ModelStore, tiny_run: Path) -> None:
    for version in ("10", "9", "best"):
        push(model_store, f"small/{version}", str(tiny_run))
    push(model_store, "big", str(tiny_run))
    assert (model_store.names(), model_store.versions("small")) == (["big", "small"], ["best", "9", "10"])


def test_what_is_not_there_is_said_with_what_is(model_store: ModelStore, tiny_run: Path, tmp_path: Path) -> None:
    def refusal(wanted: str) -> str:
        with pytest.raises(DataError) as caught:
            model_store.find(wanted)
        return str(caught.value)

    assert refusal("small") == f"models://small is not in {model_store.address}: it has no models."
    for name in ("small/1", "small/2", "big/1"):
        push(model_store, name, str(tiny_run))
    assert refusal("smal") == f"models://smal is not in {model_store.address}: it has big, small."
    assert refusal("small/3") == f"models://small/3 is not in {model_store.address}: it has small/1, small/2."
    unpromoted = "means no version yet: name one of small/1, small/2, or promote it (t2i models promote)."
    assert refusal("small") == f"models://small {unpromoted}"
    with pytest.raises(DataError, match="models://small/3 is not in"):
        model_store.promote("small", "3")
    delete_file(*filesystem_for(f"{model_store.address}/small/2/manifest.json"))
    assert refusal("small/2") == f"models://small/2 is not in {model_store.address}: it has small/1."
    with pytest.raises(DataError, match="models://small/2 is not in"):
        model_store.pull("small/2", tmp_path / "pulled")


@pytest.mark.parametrize("wanted", ["", "small/", "a/b/c", "../small", "small/..", "_push.json", "a b", "small/1/"])
def test_only_plain_names_are_taken(model_store: ModelStore, wanted: str) -> None:
    with pytest.raises(DataError, match=r"is no model: write NAME or NAME/VERSION"):
        model_store.find(wanted)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}"])
def test_a_damaged_record_is_named(model_store: ModelStore, tiny_run: Path, text: bytes) -> None:
    push(model_store, "small", str(tiny_run))
    write(f"{model_store.address}/small/{PROMOTED}", text)
    with pytest.raises(DataError, match=r"small/_promoted\.json is damaged: promote a version again"):
        model_store.find("small")
    model_store.promote("small", "1")
    assert model_store.find("small").version == "1"
    write(f"{model_store.address}/small/1/manifest.json", text)
    with pytest.raises(CheckpointError, match=r"small/1/manifest\.json is damaged"):
        model_store.find("small")


def test_an_address_stands_for_the_version_that_is_promoted_then(
    model_store: ModelStore, tiny_run: Path, carded_run: Path
) -> None:
    push(model_store, "small", str(tiny_run))
    push(model_store, "small", str(carded_run))
    model_store.promote("small", "1")
    run = exact_run("models://small")
    model_store.promote("small", "2")
    assert (run, exact_run("models://small")) == ("models://small/1", "models://small/2")
    assert (exact_run("models://small/1"), exact_run("/runs/small")) == ("models://small/1", "/runs/small")
    local = {version: fetch_run(f"models://small/{version}") for version in "12"}
    assert not Path(local["1"], "README.md").exists()
    assert Path(local["2"], "README.md").read_text() == "# A model card\n"
    for folder in RunLayout(local["1"]).models.values():
        assert verify(folder)


def test_a_node_fetches_a_version_once_and_whole(
    remote_store: ModelStore, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(remote_store, "small", str(tiny_run))
    run = fetch_run("models://small/1")
    monkeypatch.setattr(directories, "_download", None)  # whoever fetched again would fail
    assert fetch_run("models://small/1") == run
    assert verify(run) == remote_store.find("small/1").files


def test_a_damaged_version_is_not_fetched(remote_store: ModelStore, tiny_run: Path) -> None:
    push(remote_store, "small", str(tiny_run))
    write(f"{remote_store.address}/small/1/prior/model/weights.safetensors", b"others")
    with pytest.raises(
        CheckpointError, match=r"models://small/1/prior/model/weights\.safetensors is missing or damaged"
    ):
        fetch_run("models://small/1")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "T2I_MODEL_STORE is not set: it has to name the model store"),
        ("", "T2I_MODEL_STORE is not set"),
        ("models", "T2I_MODEL_STORE is 'models': give an absolute path, or an address like"),
        ("models://x", "T2I_MODEL_STORE is 'models://x': give an absolute path"),
    ],
)
def test_where_the_store_is_has_to_be_said_the_same_everywhere(
    monkeypatch: pytest.MonkeyPatch, value: str | None, message: str
) -> None:
    if value is None:
        monkeypatch.delenv("T2I_MODEL_STORE", raising=False)
    else:
        monkeypatch.setenv("T2I_MODEL_STORE", value)
    for use in (exact_run, filesystem_for):
        with pytest.raises(DataError, match=message):
            use("models://small")


def test_a_manifest_names_nothing_outside_its_version(model_store: ModelStore, tiny_run: Path, tmp_path: Path) -> None:
    push(model_store, "small", str(tiny_run))
    for name in ("../x", "/x", "a/../../x", "..", "."):
        write(f"{model_store.address}/small/1/manifest.json", json.dumps({"files": {name: "0"}}).encode())
        with pytest.raises(CheckpointError, match="it names files outside its directory"):
            model_store.pull("small/1", tmp_path / "pulled")


def test_what_a_push_leaves_besides_the_run_is_not_pulled(
    model_store: ModelStore, tiny_run: Path, tmp_path: Path
) -> None:
    push(model_store, "small", str(tiny_run))
    assert file_info(model_store.filesystem, f"{model_store.root}/small/1/_push.json").is_file
    model_store.pull("small/1", tmp_path / "pulled")
    assert not (tmp_path / "pulled/_push.json").exists()
