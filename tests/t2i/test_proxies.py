"""No proxy stands between the processes of one machine."""

from __future__ import annotations

import urllib.request

import pytest

from t2i.proxies import bypass_proxies_for_loopback, is_loopback, proxy_variable


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_takes_other_hosts_alone(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://proxy:3128")
    assert proxy_variable("images.example.com") == variable
    for host in ("localhost", "127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "::"):
        assert is_loopback(host)
        assert proxy_variable(host) is None
    monkeypatch.setenv("no_proxy", ".example.com")
    assert proxy_variable("images.example.com") is None


def test_libraries_and_child_processes_go_directly_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet,127.0.0.1")
    monkeypatch.setenv("no_proxy", "intranet,127.0.0.1")
    bypass_proxies_for_loopback()
    for host in ("intranet", "localhost", "127.0.0.1", "::1"):
        assert urllib.request.proxy_bypass(host)
    assert not urllib.request.proxy_bypass("example.com")
