"""HTTPS, and certificates that clients have to show."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from registry.config.sections import TlsSettings
from registry.server.tls_files import TlsFiles
from tests.server.tls import TlsProcess
from tests.support.authority import Authority
from tests.support.payloads import digest_of
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.authority import Issued

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


def trusting(authority: Authority, shown: Issued | None = None) -> ssl.SSLContext:
    """A client that trusts an authority, and shows a certificate."""
    context = ssl.create_default_context(cafile=authority.pem)
    if shown is not None:
        context.load_cert_chain(shown.pem, shown.key)
    return context


def is_served(server: TlsProcess, context: ssl.SSLContext) -> bool:
    try:
        return server.status("/v2/", context) == 200
    except OSError:
        return False


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def install(issued: Issued, directory: Path) -> None:
    """As a tool that renews certificates does: one file after the other, each replaced at once."""
    for source, name in ((issued.pem, "tls.crt"), (issued.key, "tls.key")):
        shutil.copy(source, directory / f"{name}.new")
        (directory / f"{name}.new").replace(directory / name)


def serial_of(server: TlsProcess, context: ssl.SSLContext) -> int:
    """The certificate that a new connection is shown."""
    connection = http.client.HTTPSConnection(HOST, server.port, timeout=10, context=context)
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        shown = connection.sock.getpeercert()
        assert shown is not None
        return int(str(shown["serialNumber"]), 16)
    finally:
        connection.close()


def test_good_certificates_alone_get_through_the_handshake(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    own = authority.server(HOST)
    good, revoked, expired = authority.client(), authority.client(), authority.client(days=-1)
    other, of_a_server = stranger.client(), authority.server(HOST)
    tls = {
        "certificate": str(own.pem),
        "key": str(own.key),
        "client_ca": str(authority.pem),
        "client_crl": str(authority.revocations(tmp_path / "revoked.pem", revoked)),
    }
    for client_auth, without in (("required", False), ("optional", True)):
        directory = tmp_path / client_auth
        directory.mkdir()
        server = TlsProcess(directory, {"http": {"tls": tls | {"client_auth": client_auth}}})
        server.context = trusting(authority, good)
        with server:
            assert is_served(server, trusting(authority)) is without
            for bad in (revoked, expired, other, of_a_server):
                assert not is_served(server, trusting(authority, bad))
            assert is_served(server, trusting(authority, good))


def test_renewed_certificates_are_shown_to_new_connections_by_every_worker(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    first, second, third = (authority.server(HOST) for _ in range(3))
    install(first, tmp_path)
    tls = {"certificate": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")}
    server = TlsProcess(tmp_path, {"http": {"workers": 2, "tls": tls}})
    server.context = trusting(authority)

    def all_show(issued: Issued) -> bool:
        return {serial_of(server, server.context) for _ in range(20)} == {issued.certificate.serial_number}

    with server:
        assert all_show(first)
        kept = http.client.HTTPSConnection(HOST, server.port, timeout=30, context=server.context)
        kept.request("GET", "/livez")
        assert kept.getresponse().read()
        install(second, tmp_path)
        soon(lambda: all_show(second))
        kept.request("GET", "/livez")  # a connection that was open goes on
        assert kept.getresponse().status == 200
        kept.close()
        shutil.copy(third.pem, tmp_path / "tls.crt")  # not its key
        soon(lambda: problems(server) == ["http.tls"])
        assert all_show(second)
        shutil.copy(third.key, tmp_path / "tls.key")
        soon(lambda: problems(server) == [] and all_show(third))


def problems(server: TlsProcess) -> list[str]:
    """What the readiness of one worker names; it is ready in any case."""
    connection = http.client.HTTPSConnection(HOST, server.port, timeout=10, context=server.context)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        assert answer.status == 200
        found: list[str] = json.loads(answer.read())["problems"]
        return found
    finally:
        connection.close()


def test_a_worker_that_replaces_another_begins_with_the_certificate_of_now(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    first, second = authority.server(HOST), authority.server(HOST)
    install(first, tmp_path)
    tls = {"certificate": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")}
    server = TlsProcess(tmp_path, {"http": {"workers": 2, "tls": tls}})
    server.context = trusting(authority)
    with server:
        install(second, tmp_path)
        soon(lambda: {serial_of(server, server.context) for _ in range(20)} == {second.certificate.serial_number})
        (first_worker, *_) = workers_of(server.pid)
        os.kill(first_worker, signal.SIGKILL)
        soon(lambda: first_worker not in workers_of(server.pid) and len(workers_of(server.pid)) == 2)
        for _ in range(40):
            assert serial_of(server, server.context) == second.certificate.serial_number


def workers_of(parent: int) -> list[int]:
    """The processes that it has forked."""
    with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as children:  # noqa: PTH123 - no file of ours
        return [int(each) for each in children.read().split()]


def test_an_authority_that_is_no_longer_believed_and_a_revocation_count_without_a_restart(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    own, alice, bob = authority.server(HOST), authority.client(), authority.client()
    believed, revoked = tmp_path / "client-ca.pem", authority.revocations(tmp_path / "revoked.pem")
    shutil.copy(authority.pem, believed)
    tls = {
        "certificate": str(own.pem),
        "key": str(own.key),
        "client_ca": str(believed),
        "client_crl": str(revoked),
        "client_auth": "optional",
    }
    server = TlsProcess(tmp_path, {"http": {"tls": tls}})
    server.context = trusting(authority)
    with server:
        as_alice, as_bob = trusting(authority, alice), trusting(authority, bob)
        assert is_served(server, as_alice)
        assert is_served(server, as_bob)
        authority.revocations(revoked, bob)
        soon(lambda: not is_served(server, as_bob))
        assert is_served(server, as_alice)
        shutil.copy(other.pem, believed)
        soon(lambda: not is_served(server, as_alice))
        assert is_served(server, server.context)


def test_files_that_are_half_written_are_waited_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    first, second = authority.server(HOST), authority.server(HOST)
    install(first, tmp_path)
    files = TlsFiles(TlsSettings(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key"))
    before = files.context
    shutil.copy(second.pem, tmp_path / "tls.crt")
    files.look()
    shutil.copy(second.key, tmp_path / "tls.key")
    files.look()
    assert (files.context, files.problem) == (before, None)
    files.look()
    assert files.context is not before
    (tmp_path / "tls.key").unlink()
    files.look()
    files.look()
    assert files.problem is not None
    install(second, tmp_path)
    files.refresh()
    assert files.problem is None
