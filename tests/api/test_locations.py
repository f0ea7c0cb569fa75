"""URLs in answers: relative, or absolute behind a proxy that is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.api.service import HOST, Headers, serving
from tests.payloads import Blob, image

if TYPE_CHECKING:
    from pathlib import Path

REPO = "where/from"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
NONE: Headers = {}
PROXY: Headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "hub.example.org"}


class Case(NamedTuple):
    """A configuration, who asks and how, and what URLs begin with."""

    what: str
    http: dict[str, object]
    base: str
    headers: Headers = NONE
    peer: str = "127.0.0.1"


CASES = [
    Case("relative by itself", {}, ""),
    Case("whatever the host", {}, "", {"Host": "hub.example.org:5000"}),
    Case("absolute where that is wanted", {"relative_locations": False}, f"http://{HOST}"),
    Case("of a port", {"relative_locations": False}, "http://[::1]:5000", {"Host": "[::1]:5000"}),
    Case("not of a host that is none", {"relative_locations": False}, "", {"Host": 'x"><script>'}),
    Case("not of no host", {"relative_locations": False}, "", {"Host": ""}),
    Case("an address that is configured", {"external_url": "https://r.example.org/x/"}, "https://r.example.org/x"),
    Case("before any proxy", {"external_url": "https://r.example.org"}, "https://r.example.org", PROXY),
    Case("a proxy on this machine", {}, "https://hub.example.org", PROXY),
    Case("and on IPv6", {}, "https://hub.example.org", PROXY, "::1"),
    Case("a proxy of a network", {"trusted_proxies": ["10.0.0.0/8"]}, "https://hub.example.org", PROXY, "10.9.8.7"),
    Case("a stranger", {}, "", PROXY, "192.0.2.1"),
    Case("a stranger where URLs are absolute", {"relative_locations": False}, f"http://{HOST}", PROXY, "192.0.2.1"),
    Case("a machine that is not the proxy", {"trusted_proxies": ["10.0.0.1/32"]}, "", PROXY),
    Case("nobody is trusted", {"trusted_proxies": []}, "", PROXY),
    Case("a peer without an address", {}, "", PROXY, "unix"),
    Case("a proxy that says the scheme only", {}, f"https://{HOST}", {"X-Forwarded-Proto": "https"}),
    Case("a proxy that says the host only", {}, "http://hub:5000", {"X-Forwarded-Host": "hub:5000"}),
    Case(
        "the first of several proxies",
        {},
        "https://outer",
        {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "outer, inner"},
    ),
    Case("a prefix", {}, "https://hub.example.org/registry", {**PROXY, "X-Forwarded-Prefix": "/registry"}),
    Case("a prefix that is none", {}, "https://hub.example.org", {**PROXY, "X-Forwarded-Prefix": "//evil.example"}),
    Case("a host that is none", {}, "", {**PROXY, "X-Forwarded-Host": "evil example/@"}),
    Case("a scheme that is none", {}, "http://hub.example.org", {**PROXY, "X-Forwarded-Proto": "javascript"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_every_url_begins_with_what_the_client_can_reach(tmp_path: Path, case: Case) -> None:
    with serving(tmp_path, {"http": case.http}, peer=case.peer) as service:
        service.push_blob(REPO, CONFIG)
        service.push(REPO, "one", IMAGE)
        service.push(REPO, "two", IMAGE)
        v2, uploads = f"/v2/{REPO}", f"/v2/{REPO}/blobs/uploads/"
        headers = case.headers
        mounted = service.call("POST", f"{uploads}?mount={CONFIG.digest}&from={REPO}", headers=headers)
        assert mounted.location == f"{case.base}{v2}/blobs/{CONFIG.digest}"
        opened = service.call("POST", uploads, headers=headers)
        assert opened.location.startswith(case.base + uploads)
        session = opened.location.removeprefix(case.base)
        for method in ("PATCH", "GET"):
            assert service.call(method, session, headers=headers).location == opened.location
        closed = service.call("PUT", f"{session}?digest={Blob(b'x').digest}", b"x", headers)
        assert closed.location == f"{case.base}{v2}/blobs/{Blob(b'x').digest}"
        put = service.call("PUT", f"{v2}/manifests/one", IMAGE.data, {"Content-Type": IMAGE.media_type, **headers})
        assert put.location == f"{case.base}{v2}/manifests/{IMAGE.digest}"
        for _ in range(2):  # a page with a Link depends on who asks: it is never kept in memory
            page = service.call("GET", f"{v2}/tags/list?n=1", headers=headers)
            assert page.headers["link"] == f'<{case.base}{v2}/tags/list?n=1&last=one>; rel="next"'
            plain = service.call("GET", f"{v2}/tags/list?n=1")
            assert case.http or plain.headers["link"].startswith("</v2/")
