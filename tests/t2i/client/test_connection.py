"""How a client shows itself: addresses, keys and certificates that cannot be used are refused; and how light it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import UserError
from t2i.client import Client, host_of
from t2i.client.connection import Connection

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("matplotlib", "numpy", "omegaconf", "PIL", "ray", "torch", "tqdm", "yaml")


@pytest.mark.parametrize(
    ("address", "host"),
    [("127.0.0.1:50051", "127.0.0.1"), ("[::1]:50051", "::1"), ("images.example.com:80", "images.example.com")],
)
def test_the_host_of_an_address(address: str, host: str) -> None:
    assert host_of(address) == host


@pytest.mark.parametrize("address", ["", "127.0.0.1", "::1", "::1:50051", "[::1]", "http://127.0.0.1:50051", "a:b"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=r"use HOST:PORT, as 127.0.0.1:50051 or \[::1\]:50051\.$"):
        Client(address)


def test_the_key_is_the_given_one_or_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("T2I_KEY", raising=False)
    assert Connection("a:1").metadata == ()
    monkeypatch.setenv("T2I_KEY", "t2i-theirs")
    assert Connection("a:1").metadata == (("authorization", "Bearer t2i-theirs"),)
    assert Connection("a:1", key="t2i-mine").metadata == (("authorization", "Bearer t2i-mine"),)
    assert Connection("a:1", key="").metadata == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "with space"}, "the key has spaces"),
        ({"key": "schlüssel"}, "letters that no key has"),
        ({"key": "line\nbreak"}, "the key has spaces"),
        ({"ca": "/none"}, r"cannot read /none \(No such file or directory\)"),
        ({"ca": __file__}, "is no PEM file"),
        ({"ca": "system", "certificate": "a"}, "belong together"),
        ({"certificate": "a", "certificate_key": "b"}, "needs TLS"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Connection("a:1", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["t2i.client", "t2i.serve.cli"])
def test_it_imports_little(module: str) -> None:
    code = f"import sys, {module}; print(*({set(HEAVY)} & set(sys.modules)))"
    environment = {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120, capture_output=True)
    assert done.stdout.split() == []
