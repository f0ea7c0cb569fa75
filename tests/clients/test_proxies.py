"""Clients behind proxies that say only half of where they are, some of it wrong: pushes go through all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import layout_content
from tests.clients.proxies import HalfSpeakingNginx, Proxy
from tests.clients.wire import Wire
from tests.support.payloads import Blob

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
