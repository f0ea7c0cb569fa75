"""Logins through nginx with TLS: clients are sent to the address that they called, whatever else a header says."""

from __future__ import annotations

import http.client
import re
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.clients.guarded import PASSWORDS, running, seen
from tests.clients.proxies import HalfSpeakingNginx, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.daemon import DockerDaemon
    from tests.support.backends import Backend
    from tests.support.servers import Registry

pytestmark = [
    pytest.mark.clients,
    pytest.mark.tools("nginx", "openssl"),
    pytest.mark.local_storage("the kind of store makes no difference"),
]

SAYING_ALL = Proxy(
    (
        "Host $http_host",
        "X-Forwarded-For $proxy_add_x_forwarded_for",
        "X-Forwarded-Host $http_host",
        "X-Forwarded-Proto $scheme",
    ),
    tls=True,
)
SPOOFED = {"X-Forwarded-Host": "evil.example.org", "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": "/evil"}


@pytest.fixture
def proxy(guarded: Registry, tmp_path: Path) -> Iterator[HalfSpeakingNginx]:
    (tmp_path / "nginx").mkdir()
    with HalfSpeakingNginx(tmp_path / "nginx", guarded.address, SAYING_ALL) as started:
        yield started


def realm(connection: http.client.HTTPConnection, **headers: str) -> str:
    """Where a client without credentials is sent for a token."""
    connection.request("GET", "/v2/", headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    found = re.match(r'Bearer realm="([^"]*)"', answer.headers["WWW-Authenticate"])
    assert found
    return found[1]


def test_the_realm_is_the_address_of_the_proxy(proxy: HalfSpeakingNginx) -> None:
    context = ssl.create_default_context(cafile=str(proxy.directory / "tls.pem"))
    host, expected = proxy.address, f"https://{proxy.address}/auth/token"
    assert realm(http.client.HTTPSConnection(host, context=context, timeout=30)) == expected
    spoofed = {name: value for name, value in SPOOFED.items() if name != "X-Forwarded-Prefix"}  # nginx passes it on
    assert realm(http.client.HTTPSConnection(host, context=context, timeout=30), **spoofed) == expected


def test_headers_of_a_peer_that_is_no_trusted_proxy_change_nothing(backend: Backend, tmp_path: Path) -> None:
    with running(backend, tmp_path, http={"trusted_proxies": ["192.0.2.0/24"]}) as server:
        connection = http.client.HTTPConnection(server.address, timeout=30)
        assert realm(connection, **SPOOFED) == f"http://{server.address}/auth/token"


@pytest.mark.tools("skopeo", "crane", "docker", "dockerd")
def test_clients_log_in_push_and_pull_through_a_proxy_with_tls(
    proxy: HalfSpeakingNginx,
    guarded: Registry,
    docker_daemon: DockerDaemon,
    new_client: Callable[[str], Client],
    source: Path,
    tmp_path: Path,
) -> None:
    place = f"{proxy.address}/team/proxied"
    account = ("--username=alice", f"--password={PASSWORDS['alice']}")
    skopeo, crane, docker = new_client("skopeo"), new_client("crane"), docker_daemon.client(tmp_path / "docker")
    skopeo.fails("login", "--tls-verify=false", "--username=alice", "--password=no", proxy.address, saying="invalid")
    skopeo.run("login", "--tls-verify=false", *account, proxy.address)
    skopeo.run("copy", "--dest-tls-verify=false", f"oci:{source}:single", f"docker://{place}:skopeo")
    crane.run("auth", "login", proxy.address, *account)
    crane.run("copy", "--insecure", f"{place}:skopeo", f"{place}/crane:1")
    docker.run("login", *account, proxy.address)
    docker.run("pull", f"{place}/crane:1")
    docker.run("tag", f"{place}/crane:1", f"{place}/docker:1")
    docker.run("push", f"{place}/docker:1")
    for repository, tag in (("proxied", "skopeo"), ("proxied/crane", "1"), ("proxied/docker", "1")):
        assert seen(guarded.address, f"team/{repository}", tag, "bob").status == 200
    new_client("skopeo").fails(
        "copy", "--src-tls-verify=false", f"docker://{place}:skopeo", f"oci:{tmp_path}/none", saying="unauthorized"
    )
