"""Origins: the registry's own, as a browser writes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from registry.admin.origin import require_own_origin
from registry.oci.errors import Denied


def request_from(*origins: str, own: str, external: str = "") -> Request:
    context: Any = SimpleNamespace(urls=SimpleNamespace(origin=lambda _request: own, external_origin=external))
    headers = [(b"origin", origin.encode()) for origin in origins]
    return Request({"type": "http", "headers": headers, "registry.context": context})


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        ("http://registry.test", "http://registry.test"),
        ("http://registry.test", "http://registry.test:80"),
        ("http://registry.test:80", "http://registry.test"),
        ("https://registry.test", "https://Registry.Test:443"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("https://external.test", "https://inner.test"),
    ],
)
def test_a_page_of_the_registry_is_of_its_own_origin(origin: str, own: str) -> None:
    require_own_origin(request_from(origin, own=own, external="https://external.test"), is_named=True)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "registry.test",
        "https://registry.test",
        "http://registry.test:5000",
        "http://registry.test:443",
        "http://registry.test.evil.example.org",
        "http://evil.example.org",
        "http://registry.test/",
    ],
)
@pytest.mark.parametrize("is_named", [False, True])
def test_every_other_page_is_foreign(origin: str, is_named: bool) -> None:
    with pytest.raises(Denied):
        require_own_origin(request_from(origin, own="http://registry.test"), is_named=is_named)


def test_one_of_two_origins_may_be_that_of_a_stranger() -> None:
    with pytest.raises(Denied):
        require_own_origin(
            request_from("http://registry.test", "http://evil.example.org", own="http://registry.test"), is_named=False
        )


def test_a_registry_that_does_not_know_its_name_takes_no_origin() -> None:
    with pytest.raises(Denied):
        require_own_origin(request_from("", own=""), is_named=False)


def test_a_program_says_nothing_of_a_page_and_a_browser_must() -> None:
    require_own_origin(request_from(own="http://registry.test"), is_named=False)
    with pytest.raises(Denied):
        require_own_origin(request_from(own="http://registry.test"), is_named=True)
