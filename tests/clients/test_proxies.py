"""Clients behind proxies that say only half of where they are, some of it wrong: pushes go through all the same."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import pytest

from tests.clients.layouts import layout_content
from tests.clients.wire import Wire
from tests.support.payloads import Blob
from tests.support.program import Program
from tests.support.servers import HOST
from tests.support.tools import tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.layouts import Layout
    from tests.support.servers import Registry

pytestmark = [
    pytest.mark.clients,
    pytest.mark.tools("nginx"),
    pytest.mark.local_storage("the kind of store makes no difference"),
]

_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 128; }}

http {{
    access_log off;
    {temporary}
    server {{
        {listen}
        client_max_body_size 0;
        location /below/ {{
            proxy_pass http://{registry}/;
            proxy_set_header X-Forwarded-Prefix /below/;
        }}
        location / {{
            proxy_pass http://{registry};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            {lines}
        }}
    }}
}}
"""


class Proxy(NamedTuple):
    """What a proxy says."""

    lines: tuple[str, ...]
    tls: bool = False


PROXIES = {
    "as ProxyPass of Apache": Proxy(
        (
            "Host $proxy_host",
            "X-Forwarded-For $proxy_add_x_forwarded_for",
            "X-Forwarded-Host $http_host",
            "X-Forwarded-Server $host",
        )
    ),
    "as ProxyPass of Apache with TLS": Proxy(
        (
            "Host $proxy_host",
            "X-Forwarded-For $proxy_add_x_forwarded_for",
            "X-Forwarded-Host $http_host",
            "X-Forwarded-Server $host",
        ),
        tls=True,
    ),
    "without the port": Proxy(("Host $host", "X-Forwarded-Host $host", "X-Forwarded-Proto $scheme")),
    "with the scheme of a proxy further in": Proxy(
        ("Host $http_host", "X-Forwarded-Host $http_host", "X-Forwarded-Proto http"), tls=True
    ),
    "with a scheme in capitals": Proxy(
        ("Host $http_host", "X-Forwarded-Host $http_host", "X-Forwarded-Proto HTTPS"), tls=True
    ),
    "with a prefix that is a slash": Proxy(("Host $http_host", "X-Forwarded-Prefix /")),
    "with nothing": Proxy(("Host $proxy_host",)),
}


class HalfSpeakingNginx(Program):
    """nginx with the headers of any proxy."""

    name: ClassVar[str] = "nginx"

    def __init__(self, directory: Path, registry: str, proxy: Proxy) -> None:
        super().__init__(directory)
        self._registry = registry
        self._proxy = proxy

    def command(self) -> list[str]:
        """Write the configuration, with a certificate of its own; return the command."""
        listen = f"listen {self.address};"
        if self._proxy.tls:
            self._make_certificate()
            files = f"ssl_certificate {self.directory}/tls.pem; ssl_certificate_key {self.directory}/tls.key;"
            listen = f"listen {self.address} ssl; {files}"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        path = self.directory / "nginx.conf"
        path.write_text(
            _CONFIGURATION.format(
                directory=self.directory,
                user="user root;" if os.geteuid() == 0 else "",
                temporary=" ".join(f"{kind}_temp_path {self.directory}/temporary-{kind};" for kind in kinds),
                listen=listen,
                registry=self._registry,
                lines="\n            ".join(f"proxy_set_header {line};" for line in self._proxy.lines),
            ),
            encoding="utf-8",
        )
        return [str(tool(self.name)), "-p", str(self.directory), "-c", str(path), "-e", "stderr"]

    def ready(self) -> bool:
        """Whether it listens."""
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def _make_certificate(self) -> None:
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=proxy", "-addext", f"subjectAltName=IP:{HOST}"]
        files = ["-keyout", f"{self.directory}/tls.key", "-out", f"{self.directory}/tls.pem"]
        subprocess.run(["openssl", "req", "-x509", *kind, *names, *files], check=True, capture_output=True, timeout=30)


@pytest.mark.tools("skopeo", "crane", "openssl")
@pytest.mark.parametrize("said", PROXIES)
def test_pushes_and_pulls_go_through_a_proxy_with_any_of_its_headers(
    registry_server: Registry, new_client: Callable[[str], Client], layout: Layout, tmp_path: Path, said: str
) -> None:
    (tmp_path / "nginx").mkdir()
    repository = f"proxies/{said.lower().replace(' ', '-')}"
    wanted = layout_content(layout.directory, "single")
    with HalfSpeakingNginx(tmp_path / "nginx", registry_server.address, PROXIES[said]) as proxy:
        reference = f"{proxy.address}/{repository}"
        skopeo, crane = new_client("skopeo"), new_client("crane")
        skopeo.run(
            "copy",
            "--dest-tls-verify=false",
            "--preserve-digests",
            f"oci:{layout.directory}:single",
            f"docker://{reference}/skopeo:1",
        )
        crane.run("copy", "--insecure", f"{reference}/skopeo:1", f"{reference}/crane:1")  # mounts
        crane.run("pull", "--insecure", "--format=oci", f"{reference}/skopeo:1", tmp_path / "pulled")
        crane.run("push", "--insecure", tmp_path / "pulled", f"{reference}/pushed:1")  # uploads what is not there
        skopeo.run("copy", "--src-tls-verify=false", f"docker://{reference}/crane:1", f"oci:{tmp_path}/back:1")
    assert layout_content(tmp_path / "back", "1") == wanted
    assert Wire(registry_server.address).content(f"{repository}/skopeo", "1") == wanted


def test_a_registry_below_a_path_is_pushed_to_by_following_its_locations(
    registry_server: Registry, tmp_path: Path
) -> None:
    (tmp_path / "nginx").mkdir()
    blob = Blob(b"below a path")
    with HalfSpeakingNginx(tmp_path / "nginx", registry_server.address, PROXIES["with nothing"]) as proxy:
        wire = Wire(proxy.address)
        opened = wire.request("POST", "/below/v2/proxies/below/blobs/uploads/", b"")
        assert (opened.status, opened.headers["location"][:10]) == (202, "/below/v2/")
        added = wire.request("PATCH", opened.headers["location"], blob.data)
        closed = wire.request("PUT", f"{added.headers['location']}?digest={blob.digest}", b"")
        assert closed.status == 201
        assert wire.request("GET", closed.headers["location"]).body == blob.data
