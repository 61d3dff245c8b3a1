"""Files of keys: made, read, refused in a sentence, and read again when they change."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from models.errors import UserError
from t2i.serve.access.keys import KeyRing, UnauthenticatedError, add_key, find_key, hash_of, read_keys
from t2i.serve.cli import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_new_keys_are_printed_once_and_stored_as_hashes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "new", "alice", "--file", str(file), "--tokens-per-minute", "1000", "--concurrent", "2"])
    main(["keys", "new", "bob", "--file", str(file), "--admin"])
    alice, bob = capsys.readouterr().out.split()
    assert alice != bob
    assert alice not in file.read_text()
    known = read_keys(str(file))
    assert [(key.name, key.tokens_per_minute, key.concurrent, key.admin) for key in known] == [
        ("alice", 1000, 2, False),
        ("bob", None, None, True),
    ]
    assert find_key(known, alice) is known[0]
    assert find_key(known, bob) is known[1]
    assert find_key(known, alice[:-1]) is None
    assert find_key(known, known[0].sha256) is None


@pytest.mark.parametrize(
    "text",
    [
        "# whose\nkeys:\n  - name: old # a note\n    sha256: {0}\n",
        "keys: []\n",
        "# none yet\nkeys: [ ]",
        "keys:\n- sha256: {0}\n  name: old",
    ],
)
def test_what_a_person_wrote_stays(file: Path, text: str) -> None:
    file.write_text(text.format("0" * 64))
    notes = [line for line in file.read_text().splitlines() if "#" in line]
    word = add_key(file, "new")
    assert all(note in file.read_text().splitlines() for note in notes)
    assert [key["name"] for key in yaml.safe_load(file.read_text())["keys"]][-1] == "new"
    assert find_key(read_keys(str(file)), word) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys:\n- {name: a, sha256: 12}", "sha256 of a is no SHA-256"),
        ("keys:\n- {name: a b, sha256: 12}", "keys: the name 'a b' is not possible"),
        ("keys:\n- {name: a, sha256: HASH}\n- {name: a, sha256: HASH}", "the name a is there twice"),
        ("keys:\n- {name: a, sha256: HASH, concurrent: 0}", "keys.concurrent is 0"),
        ("keys:\n- {name: a, hash: HASH}", "keys.hash is not a known key"),
        ("[]", "it is a group of fields"),
        ("keys: [", "cannot be read as YAML"),
    ],
)
def test_mistakes_in_the_file_are_named_with_it(file: Path, text: str, message: str) -> None:
    file.write_text(text.replace("HASH", "0" * 64))
    with pytest.raises(UserError, match=message) as caught:
        read_keys(str(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_and_names_that_are_taken_are_refused(file: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .* \(No such file or directory\)"):
        KeyRing(str(file))
    add_key(file, "alice")
    before = file.read_text()
    with pytest.raises(UserError, match="the name alice is there twice"):
        add_key(file, "alice")
    assert file.read_text() == before
    file.write_bytes(b"\xff")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_keys(str(file))


def test_keys_are_read_again_when_their_file_changes(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    alice = add_key(file, "alice")
    ring = KeyRing(str(file))
    bob = add_key(file, "bob")
    assert ring.find(f"Bearer {bob}").name == "bob"
    file.write_text("keys: [")
    assert ring.find(f"bearer {alice}").name == "alice"
    assert "the keys before stay known" in caplog.text
    file.write_text("keys: []")
    with pytest.raises(UnauthenticatedError):
        ring.find(f"Bearer {alice}")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer t2i-x"])
def test_headers_without_a_known_key_are_refused(file: Path, header: str | None) -> None:
    add_key(file, "alice")
    with pytest.raises(UnauthenticatedError, match=r"\.$"):
        KeyRing(str(file)).find(header)


def test_all_hashes_are_compared_in_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [add_key(file, name) for name in ("a", "b", "c")]
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return one == other

    known = read_keys(str(file))
    monkeypatch.setattr("hmac.compare_digest", compare)
    for word in words:
        find_key(known, word)
    assert compared == [(key.sha256, hash_of(word)) for word in words for key in known]
