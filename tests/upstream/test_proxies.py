"""The environment says which servers are reached through a proxy."""

from __future__ import annotations

import pytest

from registry.upstream.proxies import ENVIRONMENT, proxy_of
from registry.upstream.url import parse_url

PROXY = "http://proxy.example.org:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("value", [PROXY, "proxy.example.org:3128"])
def test_the_environment_names_the_proxy(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert proxy_of(parse_url("https://registry.example.org").origin, ENVIRONMENT) == PROXY
    assert proxy_of(parse_url("https://registry.example.org").origin, None) is None
    assert proxy_of(parse_url("https://registry.example.org").origin, "http://other:1") == "http://other:1"


def test_without_a_variable_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_of(parse_url("https://registry.example.org").origin, ENVIRONMENT) is None
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    assert proxy_of(parse_url("https://registry.example.org").origin, ENVIRONMENT) is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_left_out"),
    [
        ("registry.example.org", "https://registry.example.org", True),
        ("example.org", "https://registry.example.org", True),
        (".example.org", "https://registry.example.org", True),
        ("registry.example.org:5000", "https://registry.example.org:5000", True),
        ("registry.example.org:5000", "https://registry.example.org", False),
        ("a, *", "https://registry.example.org", False),
        ("*", "https://registry.example.org", True),
        ("other.example.org", "https://registry.example.org", False),
        ("localhost, 10.0.0.0/8", "https://10.1.2.3", True),
        ("10.1.2.3:443", "https://10.1.2.3", True),
        ("*", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("2001:db8::/32", "https://[2001:db8::1]", True),
        ("[2001:db8::1]:443", "https://[2001:db8::1]", True),
    ],
)
def test_no_proxy_leaves_servers_out(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, is_left_out: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_of(parse_url(url).origin, ENVIRONMENT) is None) == is_left_out
