"""Each way on which a request reaches a mirror, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from registry.api.mirroring.entrances import Entered, Entrances
from registry.config.mirror_sections import MirrorSettings
from registry.mirror.names import MirrorNames

HUB: dict[str, Any] = {
    "name": "hub",
    "url": ["https://hub.example.org"],
    "prefix": "docker.io",
    "namespaces": ["docker.io"],
    "hosts": ["hub.mirror.example.org"],
}
PARTNER: dict[str, Any] = {
    "name": "partner",
    "url": ["https://registry.partner.example.org"],
    "prefix": "mirrors/partner",
    "namespaces": ["registry.partner.example.org"],
}


def entrances(*sections: dict[str, Any]) -> Entrances:
    settings = [MirrorSettings.model_validate(section) for section in sections or (HUB, PARTNER)]
    return Entrances(MirrorNames(settings), "registry.example.org")


def enter(target: str, host: str = "127.0.0.1:5000", method: str = "GET") -> Entered | None:
    path, _, query = target.partition("?")
    return entrances().enter(method, path, query.encode(), [(b"host", host.encode())])


def mapped(target: str, host: str = "127.0.0.1:5000") -> str:
    """Where a request goes; the target itself where it is taken as it is."""
    found = enter(target, host)
    if found is None:
        return target
    assert found.refusal is None, found
    return f"{found.path}?{found.query.decode()}" if found.query else found.path


def refusal(target: str, host: str = "127.0.0.1:5000", method: str = "GET") -> tuple[int, str]:
    found = enter(target, host, method)
    assert found is not None
    assert found.refusal is not None
    return found.refusal.status, found.refusal.message


@pytest.mark.parametrize(
    ("target", "host", "where"),
    [
        # by the prefix
        ("/v2/docker.io/library/nginx/manifests/1", "", "/v2/docker.io/library/nginx/manifests/1"),
        ("/v2/docker.io/nginx/manifests/1", "", "/v2/docker.io/library/nginx/manifests/1"),
        ("/v2/docker.io/nginx/tags/list?n=2", "", "/v2/docker.io/library/nginx/tags/list?n=2"),
        ("/v2/mirrors/partner/nginx/manifests/1", "", "/v2/mirrors/partner/nginx/manifests/1"),
        # by the namespace
        ("/v2/library/nginx/manifests/1?ns=docker.io", "", "/v2/docker.io/library/nginx/manifests/1"),
        ("/v2/nginx/manifests/1?ns=Registry-1.docker.io%3A443", "", "/v2/docker.io/library/nginx/manifests/1"),
        ("/v2/docker.io/nginx/manifests/1?ns=docker.io", "", "/v2/docker.io/library/nginx/manifests/1"),
        ("/v2/nginx/blobs/sha256:1?ns=registry.partner.example.org", "", "/v2/mirrors/partner/nginx/blobs/sha256:1"),
        (
            "/v2/nginx/referrers/sha256:1?a=b&ns=docker.io&n=2",
            "",
            "/v2/docker.io/library/nginx/referrers/sha256:1?a=b&n=2",
        ),
        ("/v2/?ns=docker.io", "", "/v2/"),
        # by the host
        ("/v2/nginx/manifests/1", "hub.mirror.example.org", "/v2/docker.io/library/nginx/manifests/1"),
        ("/v2/nginx/manifests/1", "HUB.mirror.example.org:443", "/v2/docker.io/library/nginx/manifests/1"),
        ("/v2/nginx/manifests/1?ns=docker.io", "hub.mirror.example.org", "/v2/docker.io/library/nginx/manifests/1"),
        ("/v2/", "hub.mirror.example.org", "/v2/"),
        ("/auth/token?service=a", "hub.mirror.example.org", "/auth/token?service=a"),
        # by the path
        ("/mirror/hub/v2/nginx/manifests/1", "", "/v2/docker.io/library/nginx/manifests/1"),
        ("/mirror/partner/v2/a/manifests/b/manifests/1", "", "/v2/mirrors/partner/a/manifests/b/manifests/1"),
        ("/mirror/hub/v2/", "", "/v2/"),
        ("/mirror/hub/v2", "", "/v2/"),
        # by none
        ("/v2/library/nginx/manifests/1", "", "/v2/library/nginx/manifests/1"),
        ("/v2/library/nginx/manifests/1?ns=registry.example.org", "", "/v2/library/nginx/manifests/1"),
        ("/v2/library/nginx/manifests/1?ns=10.0.0.1:5000", "10.0.0.1:5000", "/v2/library/nginx/manifests/1"),
        ("/v2/library/nginx/tags/list?last=ns=1", "", "/v2/library/nginx/tags/list?last=ns=1"),
    ],
)
def test_a_request_goes_to_the_repository_that_it_means(target: str, host: str, where: str) -> None:
    assert mapped(target, host) == where


@pytest.mark.parametrize(
    ("target", "host", "status", "message"),
    [
        ("/v2/library/nginx/manifests/1?ns=other.example.org", "", 404, "no mirror here stands for other.example.org"),
        ("/v2/library/nginx/manifests/1?ns=", "", 404, "no mirror here stands for"),
        ("/v2/a/manifests/1?ns=docker.io&ns=other.example.org", "", 404, "several registries"),
        ("/v2/a/manifests/1?ns=registry.partner.example.org", "hub.mirror.example.org", 404, "no mirror here"),
        ("/mirror/other/v2/a/manifests/1", "", 404, "no mirror has this address"),
        ("/mirror/hub/a/manifests/1", "", 404, "no mirror has this address"),
        ("/mirror/hub/v2/_catalog", "", 404, "has nothing at this address"),
        ("/v2/_catalog", "hub.mirror.example.org", 404, "has nothing at this address"),
        ("/v2/nginx/blobs/uploads/", "hub.mirror.example.org", 404, "has nothing at this address"),
        ("/v2/NGINX/manifests/1", "hub.mirror.example.org", 400, ""),
        ("/v2/../manifests/1?ns=docker.io", "", 400, ""),
    ],
)
def test_what_no_mirror_has_is_refused(target: str, host: str, status: int, message: str) -> None:
    found = refusal(target, host)
    assert found[0] == status
    assert message in found[1]


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_through_an_entrance_nothing_is_changed(method: str) -> None:
    status, message = refusal("/v2/nginx/manifests/1", "hub.mirror.example.org", method)
    assert (status, message) == (405, "the mirror hub can only be pulled from")


def test_memory_is_asked_under_the_name_of_the_repository() -> None:
    made, host = entrances(), [(b"host", b"hub.mirror.example.org")]
    assert made.key("GET", "/v2/nginx/manifests/1", b"", host) == ("/v2/docker.io/library/nginx/manifests/1", b"")
    assert made.key("GET", "/v2/nginx/manifests/1", b"", [(b"host", b"a")]) == ("/v2/nginx/manifests/1", b"")
    assert made.key("GET", "/v2/nginx/manifests/1", b"ns=other", [(b"host", b"a")]) == ("", b"")
