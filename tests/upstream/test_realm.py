"""A token service sees credentials only where the mirror, its domain or the settings say so."""

from __future__ import annotations

import pytest

from registry.upstream.realm import takes_credentials
from registry.upstream.url import parse_url

ORIGIN = "https://registry.example.org"


@pytest.mark.parametrize(
    ("origin", "realm", "token_hosts"),
    [
        (ORIGIN, "https://registry.example.org/token", []),
        (ORIGIN, "https://example.org/jwt/auth", []),
        (ORIGIN, "https://auth.example.org/token", ["auth.example.org"]),
        (ORIGIN, "https://auth.example.org:5001/token", ["auth.example.org"]),
        (ORIGIN, "https://auth.example.org:5001/token", ["auth.example.org:5001"]),
        (ORIGIN, "https://registry.example.org:5001/token", ["registry.example.org:5001"]),
        (ORIGIN, "https://[2001:db8::1]:5001/token", ["2001:db8::1"]),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/token", []),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", ["127.0.0.1:5001"]),
        ("https://registry-1.docker.io", "https://auth.docker.io/token", []),
    ],
)
def test_the_realm_of_a_mirror_gets_its_credentials(origin: str, realm: str, token_hosts: list[str]) -> None:
    assert takes_credentials(parse_url(realm).origin, parse_url(origin).origin, token_hosts)


@pytest.mark.parametrize(
    ("origin", "realm", "token_hosts"),
    [
        (ORIGIN, "https://auth.example.com/token", []),
        (ORIGIN, "https://auth.example.org/token", []),
        (ORIGIN, "https://org/token", []),
        (ORIGIN, "https://a.registry.example.org/token", []),
        (ORIGIN, "https://registry.example.org:5001/token", []),
        (ORIGIN, "https://example.org:8443/token", []),
        (ORIGIN, "https://registry.example.org.evil.example.com/token", []),
        (ORIGIN, "http://registry.example.org/token", []),
        (ORIGIN, "http://auth.example.org/token", ["auth.example.org"]),
        (ORIGIN, "https://auth.example.org:5001/token", ["auth.example.org:443"]),
        ("https://registry.example", "https://example/token", []),
        ("https://10.0.0.1", "https://0.0.1/token", []),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", []),
        ("https://registry.example.org", "https://auth.docker.io/token", []),
    ],
)
def test_a_realm_elsewhere_does_not(origin: str, realm: str, token_hosts: list[str]) -> None:
    assert not takes_credentials(parse_url(realm).origin, parse_url(origin).origin, token_hosts)
