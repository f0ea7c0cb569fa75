"""URLs in answers: paths, or absolute where that is configured and known as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from starlette.requests import Request

from registry.api.http.forwarding import Forwarding
from registry.api.http.urls import ExternalUrls
from registry.config.sections import HttpSettings
from tests.api.asgi import HOST
from tests.api.service import Headers, serving
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from pathlib import Path

REPO = "where/from"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
NONE: Headers = {}
PROXY: Headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "hub.example.org"}
APACHE: Headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "hub", "X-Forwarded-Server": "hub"}
"""All that its ProxyPass says."""


class Case(NamedTuple):
    """A configuration, a client and its headers, and what URLs begin with."""

    what: str
    http: dict[str, object]
    base: str
    headers: Headers = NONE
    peer: str = "127.0.0.1"


ABSOLUTE: dict[str, object] = {"relative_locations": False}
CASES = [
    Case("a path by itself", {}, ""),
    Case("whatever the host", {}, "", {"Host": "hub.example.org:5000"}),
    Case("a path behind a proxy that says all", {}, "", PROXY),
    Case("one that says the scheme only", {}, "", {"X-Forwarded-Proto": "https"}),
    Case("the scheme of a proxy further in", {}, "", {"X-Forwarded-Proto": "http", "X-Forwarded-Host": "hub"}),
    Case("what ProxyPass of Apache says", {}, "", APACHE),
    Case("the path of an address that is configured", {"external_url": "https://r.example.org/x/"}, "/x"),
    Case("before any proxy", {"external_url": "https://r.example.org"}, "", {"X-Forwarded-Prefix": "/y"}),
    Case("a prefix", {}, "/registry", {"X-Forwarded-Prefix": "/registry"}),
    Case("with all else", {}, "/registry", {**PROXY, "X-Forwarded-Prefix": "/registry"}),
    Case("with a slash at its end", {}, "/team/registry", {"X-Forwarded-Prefix": "/team/registry/"}),
    Case("that is a slash", {}, "", {"X-Forwarded-Prefix": "/"}),
    Case("of two proxies", {}, "/outer/inner", {"X-Forwarded-Prefix": "/outer, /inner/"}),
    Case("that is none", {}, "", {**PROXY, "X-Forwarded-Prefix": "//evil.example"}),
    Case("that leads elsewhere", {}, "", {"X-Forwarded-Prefix": "/a/.."}),
    Case("that is too long", {}, "", {"X-Forwarded-Prefix": "/a" * 300}),
    Case("of a stranger", {}, "", {"X-Forwarded-Prefix": "/registry"}, "192.0.2.1"),
    Case("absolute where that is wanted", ABSOLUTE, f"http://{HOST}"),
    Case("of a port", ABSOLUTE, "http://[::1]:5000", {"Host": "[::1]:5000"}),
    Case("not of a host that is none", ABSOLUTE, "", {"Host": 'x"><script>'}),
    Case("not of no host", ABSOLUTE, "", {"Host": ""}),
    Case("configured", {**ABSOLUTE, "external_url": "https://r.example.org/x/"}, "https://r.example.org/x", PROXY),
    Case("a proxy on this machine", ABSOLUTE, "https://hub.example.org", PROXY),
    Case("and on IPv6", ABSOLUTE, "https://hub.example.org", PROXY, "::1"),
    Case("and on a dual socket", ABSOLUTE, "https://hub.example.org", PROXY, "::ffff:127.0.0.1"),
    Case("of a network", {**ABSOLUTE, "trusted_proxies": ["10.0.0.0/8"]}, "https://hub.example.org", PROXY, "10.9.8.7"),
    Case("with a prefix", ABSOLUTE, "https://hub.example.org/x", {**PROXY, "X-Forwarded-Prefix": "/x/"}),
    Case("a scheme in capitals", ABSOLUTE, "https://hub.example.org", {**PROXY, "X-Forwarded-Proto": "HTTPS"}),
    Case("a stranger where URLs are absolute", ABSOLUTE, f"http://{HOST}", PROXY, "192.0.2.1"),
    Case("a machine that is not the proxy", {**ABSOLUTE, "trusted_proxies": ["10.0.0.1/32"]}, f"http://{HOST}", PROXY),
    Case("no proxy is trusted", {**ABSOLUTE, "trusted_proxies": []}, f"http://{HOST}", PROXY),
    Case("a peer without an address", ABSOLUTE, f"http://{HOST}", PROXY, "unix"),
    Case("no guess from the scheme only", ABSOLUTE, "", {"X-Forwarded-Proto": "https"}),
    Case("no guess from the host only", ABSOLUTE, "", {"X-Forwarded-Host": "hub:5000"}),
    Case("no guess from the client only", ABSOLUTE, "", {"X-Forwarded-For": "192.0.2.1"}),
    Case("no guess behind Apache", ABSOLUTE, "", APACHE),
    Case("a path with the prefix at least", ABSOLUTE, "/x", {**APACHE, "X-Forwarded-Prefix": "/x"}),
    Case(
        "the first of several proxies",
        ABSOLUTE,
        "https://outer",
        {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "outer, inner"},
    ),
    Case("a host that is none", ABSOLUTE, "", {**PROXY, "X-Forwarded-Host": "evil example/@"}),
    Case("a scheme that is none", ABSOLUTE, "", {**PROXY, "X-Forwarded-Proto": "javascript"}),
]


WHOLE = {
    "a path by itself",
    "what ProxyPass of Apache says",
    "with all else",
    "before any proxy",
    "configured",
    "with a prefix",
}
"""Cases with which all URLs are looked at; each is a registry of its own."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_url_begins_with_what_the_client_can_reach(case: Case) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in ({"Host": HOST} | case.headers).items()]
    scope = {"type": "http", "scheme": "http", "path": "/", "headers": headers, "client": (case.peer, 1)}
    settings = HttpSettings.model_validate(case.http)
    urls = ExternalUrls(settings, Forwarding(settings.trusted_proxies))
    assert urls.url(Request(scope), "/v2/x") == f"{case.base}/v2/x"


@pytest.mark.parametrize("case", [case for case in CASES if case.what in WHOLE], ids=lambda case: case.what)
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
        for _ in range(2):  # a page with a Link depends on the client: it is never kept in memory
            page = service.call("GET", f"{v2}/tags/list?n=1", headers=headers)
            assert page.headers["link"] == f'<{case.base}{v2}/tags/list?n=1&last=one>; rel="next"'
            plain = service.call("GET", f"{v2}/tags/list?n=1")
            assert case.http or plain.headers["link"].startswith("</v2/")


def test_members_of_a_list_may_come_in_lines_of_their_own(tmp_path: Path) -> None:
    lines = [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", ""),
        ("X-Forwarded-Host", "outer"),
        ("X-Forwarded-Host", "inner"),
        ("X-Forwarded-Prefix", "/a"),
        ("X-Forwarded-Prefix", "/b"),
    ]
    with serving(tmp_path, {"http": ABSOLUTE}) as service:
        opened = service.call("POST", f"/v2/{REPO}/blobs/uploads/", headers=lines)
        assert opened.location.startswith(f"https://outer/a/b/v2/{REPO}/blobs/uploads/")
