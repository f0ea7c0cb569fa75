"""HTTPS, and certificates that clients have to show."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.server.tls import TlsProcess
from tests.support.payloads import digest_of
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from pathlib import Path

REPO = "over/tls"
DATA = bytes(range(251)) * 20_000
"""More than one piece of an answer."""


def test_clients_that_trust_the_certificate_are_served(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """By each of several workers; the test below has one."""
    pem, key = certificate
    server = TlsProcess(tmp_path, {"http": {"workers": 2, "tls": {"certificate": str(pem), "key": str(key)}}})
    server.context = ssl.create_default_context(cafile=pem)
    with server:
        connection = http.client.HTTPSConnection(HOST, server.port, timeout=30, context=server.context)
        connection.request("POST", f"/v2/{REPO}/blobs/uploads/?digest={digest_of(DATA)}", DATA)
        assert connection.getresponse().read() == b""
        connection.request("GET", f"/v2/{REPO}/blobs/{digest_of(DATA)}")
        assert connection.getresponse().read() == DATA
        connection.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            server.status("/v2/", ssl.create_default_context())
        assert not RegistryProcess.answers(server, "/livez"), "no answer without TLS on this port"


def test_clients_without_a_certificate_are_turned_away_where_one_is_demanded(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    pem, key = certificate
    tls = {"certificate": str(pem), "key": str(key), "client_ca": str(pem)}
    server = TlsProcess(tmp_path, {"http": {"tls": tls}})
    server.context = ssl.create_default_context(cafile=pem)
    server.context.load_cert_chain(pem, key)
    with server:
        assert server.status("/v2/", server.context) == 200
        with pytest.raises(OSError):  # noqa: PT011 - the handshake or the first read fails, as the versions of TLS go
            server.status("/v2/", ssl.create_default_context(cafile=pem))
