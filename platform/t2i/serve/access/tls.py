"""The server's side of TLS, with certificates that are read again once their files have changed."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from models.errors import UserError
from t2i.logs import get_logger
from t2i.serve.access.changes import Watched
from t2i.serve.config import TLSConfig

logger = get_logger("serve.gateway")


def server_credentials(tls: TLSConfig) -> grpc.ServerCredentials:
    """Return what a server's secure port needs; with ``client_ca`` it asks every client for a certificate.

    gRPC asks for the certificates at each handshake, from a thread of its own. Connections that stand are not touched
    by an exchange, and nor are new ones by files that cannot be used, such as a certificate whose key is not there yet:
    they get the certificate before.

    Raises:
        UserError: a file cannot be read or used.
    """
    check_certificates(tls)
    watched = Watched(tls.files)
    watched.changed()
    return grpc.dynamic_ssl_server_credentials(
        _configuration(tls), lambda: _exchanged(tls, watched), require_client_authentication=tls.client_ca is not None
    )


def check_certificates(tls: TLSConfig) -> None:
    """Check that certificate, key and client authority can be read and belong together.

    Raises:
        UserError: names the file.
    """
    for path in tls.files:
        _read(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(str(tls.certificate), tls.key)
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM").lower().replace("_", " ")
        raise UserError(
            f"tls.certificate {tls.certificate} does not go with tls.key ({reason}): name a pair."
        ) from error
    try:
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
    except ssl.SSLError as error:
        raise UserError(f"tls.client_ca {tls.client_ca} has no certificate in PEM: name another file.") from error


def _exchanged(tls: TLSConfig, watched: Watched) -> grpc.ServerCertificateConfiguration | None:
    """Return the new certificates, None if they are the same or cannot be used."""
    if not watched.changed():
        return None
    try:
        check_certificates(tls)
        configuration = _configuration(tls)
    except UserError as error:
        logger.error("the certificates before stay in use: %s", error)
        return None
    logger.info("the certificates were exchanged")
    return configuration


def _configuration(tls: TLSConfig) -> grpc.ServerCertificateConfiguration:
    pair = (_read(str(tls.key)), _read(str(tls.certificate)))
    return grpc.ssl_server_certificate_configuration([pair], _read(tls.client_ca) if tls.client_ca else None)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"tls: cannot read {path} ({error.strerror}): name another file.") from error
