"""TLS and mutual TLS with real certificates, which are exchanged while the service runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from models.errors import UserError
from t2i.client import Client, ServiceUnreachableError
from t2i.config import load_mapping
from t2i.serve.access.tls import check_certificates
from t2i.serve.app import gateway
from t2i.serve.config import ServeConfig, TLSConfig

StartService = Callable[[ServeConfig], Any]


class Files:
    """An authority in ``ca.pem``, and in ``server.pem`` and ``server.key`` what it has issued last."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.certificate, self.key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
        self.exchange(trustme.CA())

    def exchange(self, authority: trustme.CA) -> None:
        """Issue another certificate: first it is written, then its key, as in life."""
        self.authority = authority
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(self.ca))
        issued.cert_chain_pems[0].write_to_path(str(self.certificate))
        issued.private_key_pem.write_to_path(str(self.key))

    def config(self, **more: Any) -> TLSConfig:
        return TLSConfig(str(self.certificate), str(self.key), **more)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_calls_are_encrypted_and_the_server_is_who_it_says(
    start_service: StartService, service_config: ServeConfig, files: Files, tmp_path: Path
) -> None:
    service = start_service(replace(service_config, tls=files.config()))
    with Client(service.address, ca=files.ca) as client:
        assert client.generate("a red taco", seed=7).images
    with (
        Client(service.address) as plain,
        pytest.raises(ServiceUnreachableError, match="if it speaks TLS, name its --ca"),
    ):
        plain.generate("a red taco")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    refused = r"do not agree on TLS \(CERTIFICATE_VERIFY_FAILED"
    with (
        Client(service.address, ca=tmp_path / "other.pem") as other,
        pytest.raises(ServiceUnreachableError, match=refused),
    ):
        other.generate("a red taco")


def test_certificates_are_exchanged_while_it_runs(
    start_service: StartService, service_config: ServeConfig, files: Files
) -> None:
    service = start_service(replace(service_config, tls=files.config()))
    service.set_running({"prior", "decoder", "reranker"})
    with Client(service.address, ca=files.ca) as before:
        assert before.is_serving()
        key = files.key.read_bytes()
        files.key.write_bytes(b"half of a ke")
        with Client(service.address, ca=files.ca) as meanwhile:
            assert meanwhile.is_serving()
        files.key.write_bytes(key)
        files.exchange(trustme.CA())
        with Client(service.address, ca=files.ca) as after:
            assert after.is_serving()
        assert before.is_serving()


def test_clients_show_a_certificate_if_they_are_asked_to(
    start_service: StartService, service_config: ServeConfig, files: Files, tmp_path: Path
) -> None:
    service = start_service(replace(service_config, tls=files.config(client_ca=str(files.ca))))
    service.set_running({"prior", "decoder", "reranker"})
    own: dict[str, dict[str, Any]] = {}
    for whose, authority in (("mine", files.authority), ("other", trustme.CA())):
        issued = authority.issue_cert("client.example")
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{whose}.pem"))
        issued.private_key_pem.write_to_path(str(tmp_path / f"{whose}.key"))
        own[whose] = {"certificate": tmp_path / f"{whose}.pem", "certificate_key": tmp_path / f"{whose}.key"}
    with Client(service.address, ca=files.ca, **own["mine"]) as client:
        assert client.is_serving()
    for options in (dict[str, Any](), own["other"]):
        with Client(service.address, ca=files.ca, **options) as client, pytest.raises(ServiceUnreachableError):
            client.is_serving()


def test_files_that_do_not_fit_are_named(files: Files, tmp_path: Path) -> None:
    check_certificates(files.config(client_ca=str(files.ca)))
    with pytest.raises(UserError, match=r"cannot read /none \(No such file or directory\)"):
        check_certificates(files.config(client_ca="/none"))
    with pytest.raises(UserError, match=r"tls.client_ca .*server.key has no certificate in PEM"):
        check_certificates(files.config(client_ca=str(files.key)))
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(str(tmp_path / "other.key"))
    with pytest.raises(UserError, match=r"server.pem does not go with tls.key \(key values mismatch\)"):
        check_certificates(TLSConfig(str(files.certificate), str(tmp_path / "other.key")))
    with pytest.raises(UserError, match="does not go with"):
        gateway({"tls": {"certificate": str(files.certificate), "key": str(tmp_path / "other.key")}})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "192.0.2.7", "images.example.com"])
def test_nothing_listens_to_others_without_protection_unless_one_says_so(
    host: str, files: Files, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"^args: host is .*: give tls.certificate and tls.key, or keys, or say insecure=true\.$"
    ):
        load_mapping(ServeConfig, {"host": host})
    (tmp_path / "keys.yaml").write_text("keys: []")
    for protection in (
        {"insecure": True},
        {"keys": str(tmp_path / "keys.yaml")},
        {"tls": {"certificate": str(files.certificate), "key": str(files.key)}},
    ):
        load_mapping(ServeConfig, {"host": host, **protection})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "[::1]", "localhost"])
def test_this_machine_alone_needs_no_protection(host: str) -> None:
    load_mapping(ServeConfig, {"host": host})


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ({"certificate": "/a"}, "tls.certificate and tls.key belong together"),
        ({"key": "/a"}, "tls.certificate and tls.key belong together"),
        ({"client_ca": "/a"}, "tls.client_ca needs a certificate"),
    ],
)
def test_half_a_configuration_is_refused(tls: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_mapping(ServeConfig, {"tls": tls})
