"""The mirror's own authority counts where the settings name a host, and its certificate goes to its origin alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.upstream.errors import AnswerInvalid, UpstreamUnavailable
from registry.upstream.resolver import Resolver
from tests.support.authority import Authority, Issued
from tests.upstream.hostile import LOCAL, NAMES, Handler, HostileServer, hostile_server, redirect, upstream_of, whole

OPEN = ("127.0.0.0/8",)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("mirror"))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The one that the system of the test believes."""
    return Authority(tmp_path_factory.mktemp("system"), "system")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Issued:
    return authority.client("urn:mirror")


@pytest.fixture(autouse=True)
def system_roots(monkeypatch: pytest.MonkeyPatch, system: Authority) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(system.pem))


@pytest.fixture
def server(authority: Authority) -> Iterator[HostileServer]:
    with hostile_server(authority.server(LOCAL, *NAMES), authority.pem) as server:
        server.replies["/v2/a"] = whole(200, b"hello")
        yield server


@pytest.fixture
def cdn(system: Authority, authority: Authority) -> Iterator[HostileServer]:
    """With a certificate that the whole world believes."""
    with hostile_server(system.server(LOCAL, *NAMES), authority.pem) as server:
        server.replies["/x"] = whole(200, b"far")
        yield server


def refuses(url: str, path: str, words: str, **keys: Any) -> None:
    """A request for this path ends before an answer, for this reason."""
    with upstream_of(url, **keys) as upstream, pytest.raises((UpstreamUnavailable, AnswerInvalid), match=words or None):
        upstream.request("GET", path)


def test_a_server_of_an_unknown_authority_is_not_believed(server: HostileServer) -> None:
    refuses(server.url("registry.example.org"), "/v2/a", r"TLS failed \(.*certificate")
    assert not server.seen


def test_the_name_is_checked_although_the_connection_goes_to_an_address(
    authority: Authority, server: HostileServer
) -> None:
    with upstream_of(server.url("registry.example.org"), ca=authority.pem) as upstream:
        assert upstream.request("GET", "/v2/a").document(10, 5) == b"hello"
    with hostile_server(authority.server(LOCAL, "cdn.example.org")) as other:
        refuses(other.url("registry.example.org"), "/v2/a", "TLS failed", ca=authority.pem)


def test_the_client_certificate_and_the_authority_stay_at_the_mirrors_origin(
    authority: Authority, client: Issued, server: HostileServer, cdn: HostileServer
) -> None:
    server.replies["/v2/b"] = redirect(f"{cdn.url('cdn.example.org')}/x")
    server.replies["/v2/c"] = redirect(f"{server.url('other.example.org')}/v2/a")
    url = server.url("registry.example.org")
    keys: dict[str, Any] = {"ca": authority.pem, "client_certificate": client.pem, "client_key": client.key}
    with upstream_of(url, allowed_hosts=OPEN, **keys) as upstream:
        assert upstream.request("GET", "/v2/b").document(10, 5) == b"far"
    refuses(url, "/v2/c", "TLS failed", allowed_hosts=OPEN, **keys)  # its authority is not the system's
    with upstream_of(url, allowed_hosts=["other.example.org"], **keys) as upstream:
        assert upstream.request("GET", "/v2/c").document(10, 5) == b"hello"
    assert [(seen.headers["host"].partition(":")[0], seen.has_certificate) for seen in server.seen + cdn.seen] == [
        ("registry.example.org", True),
        ("registry.example.org", True),
        ("registry.example.org", True),
        ("other.example.org", False),
        ("cdn.example.org", False),
    ]


def test_a_tunnel_through_a_proxy_ends_at_the_server_with_the_name(
    authority: Authority, client: Issued, server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: dict[str, Any] = {"ca": authority.pem, "client_certificate": client.pem, "client_key": client.key}
    url = server.url("registry.example.org")
    with hostile_server() as proxy:
        proxy.replies[f"registry.example.org:{server.port}"] = Handler.tunnel
        monkeypatch.delenv("https_proxy", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("NO_PROXY", "example.com")
        monkeypatch.setenv("HTTPS_PROXY", proxy.url().replace("://", "://user:p%40ss@"))
        resolver = Resolver(lambda _: [])  # no name is looked up here: the proxy does that
        with upstream_of(url, proxy="environment", resolver=resolver, **keys) as upstream:
            for _ in range(2):
                assert upstream.request("GET", "/v2/a").document(10, 5) == b"hello"
        refuses(url, "/v2/a", "TLS failed", proxy=proxy.url())
        assert proxy.seen[0].headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
        assert len(proxy.seen) == 2
    assert all(seen.has_certificate and "proxy-authorization" not in seen.headers for seen in server.seen)


def test_a_redirect_from_https_to_http_is_refused(authority: Authority, server: HostileServer) -> None:
    with hostile_server() as plain:
        server.replies["/v2/b"] = redirect(f"{plain.url('cdn.example.org')}/x")
        url = server.url("registry.example.org")
        refuses(url, "/v2/b", "https to http", ca=authority.pem, allowed_hosts=OPEN)
        assert not plain.connections


def test_a_server_that_never_ends_its_handshake_is_given_up(authority: Authority) -> None:
    with hostile_server() as plain:  # which waits for a request, and says nothing
        url = plain.url("registry.example.org").replace("http:", "https:")
        refuses(url, "/v2/a", "", ca=authority.pem, connect_timeout=0.5)


def test_a_file_that_is_no_certificate_is_told(tmp_path: Path, server: HostileServer) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    refuses(server.url("registry.example.org"), "/v2/a", "", ca=empty)
