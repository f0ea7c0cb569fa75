"""The reference page: every documented operation, without scripts and without other hosts."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import TYPE_CHECKING

from tests.api.service import serving

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_has_every_documented_operation(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        document = json.loads(service.call("GET", "/api/openapi.json").body)
        reply = service.call("GET", "/api/docs")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/html")
    page = unescape(reply.body.decode())
    shown = set(re.findall(r'<span class="method">(\w+)</span> <code>([^<]*)</code>', page))
    assert shown == {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert ("PUT", "/v2/{name}/manifests/{reference}") in shown
    assert "MANIFEST_BLOB_UNKNOWN" in page


def test_the_page_has_no_script_and_asks_no_other_host(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        reply = service.call("GET", "/api/docs")
    page = reply.body.decode().lower()
    assert not re.search(r"<script|<link|<img|<iframe|\bon\w+=|javascript:|@import|url\(", page)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "default-src 'none'" in reply.headers["content-security-policy"]
