"""Redirect targets: paths of the registry alone."""

from __future__ import annotations

import pytest

from registry.auth.browser.destination import LONGEST, check_destination
from registry.oci.errors import RequestInvalid


@pytest.mark.parametrize(
    "text", ["/", "/auth/login", "/r/team/app?tab=tags&q=a%2Fb", "/r/%C3%A4", "/a/", "/storage?x=//y", "/" + "a" * 999]
)
def test_a_path_of_the_registry_is_taken_as_it_is(text: str) -> None:
    assert check_destination(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "evil.example.org",
        "//evil.example.org",
        "///evil.example.org",
        "/\\evil.example.org",
        "\\\\evil.example.org",
        "/a\\..\\b",
        "https://evil.example.org",
        "https:evil.example.org",
        "javascript:alert(1)",
        "/\t/evil.example.org",
        "\t//evil.example.org",
        "/\n/evil.example.org",
        "/\r\nSet-Cookie: x=y",
        "/\0/evil.example.org",
        " //evil.example.org",
        "/ /evil.example.org",
        "/%2f/evil.example.org",
        "/%2F%2Fevil.example.org",
        "/%5cevil.example.org",
        "/%5C%5Cevil.example.org",
        "/%252fevil.example.org",
        "/%25252fevil.example.org",
        "/%09/evil.example.org",
        "/%0d%0aSet-Cookie:x",
        "/a//evil.example.org",
        "/./evil.example.org/../..//x",
        "/..//evil.example.org",
        "/a/..",
        "/%2e%2e/%2fevil.example.org",
        "/.//evil.example.org",
        "/a#//evil.example.org",
        "/\N{FULLWIDTH SOLIDUS}evil.example.org",
        "/" + "a" * LONGEST,
    ],
)
def test_what_could_lead_to_another_site_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid):
        check_destination(text)
