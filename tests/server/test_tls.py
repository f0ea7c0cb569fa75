"""HTTPS, and certificates that clients have to show."""

from __future__ import annotations

import http.client
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.payloads import digest_of
from tests.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from pathlib import Path

REPO = "over/tls"
DATA = bytes(range(251)) * 20_000
"""More than one piece of an answer."""


class TlsProcess(RegistryProcess):
    """A server that is asked over TLS, with a certificate of our own to trust and to show."""

    context: ssl.SSLContext

    def answers(self, path: str) -> bool:
        """See RegistryProcess."""
        try:
            return self.status(path, self.context) == 200
        except OSError:
            return False

    def status(self, path: str, context: ssl.SSLContext) -> int:
        """Of one request over TLS. Raises OSError."""
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=10, context=context)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of this address, signed by itself."""
    directory = tmp_path_factory.mktemp("tls")
    pem, key = directory / "server.pem", directory / "server.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=registry", "-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *names, "-keyout", str(key), "-out", str(pem)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return pem, key


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_that_trust_the_certificate_are_served(
    tmp_path: Path, certificate: tuple[Path, Path], workers: int
) -> None:
    pem, key = certificate
    server = TlsProcess(tmp_path, {"http": {"workers": workers, "tls": {"certificate": str(pem), "key": str(key)}}})
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
