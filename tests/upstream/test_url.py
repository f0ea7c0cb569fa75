"""A URL of a stranger is read once, and what two readers could read in two ways is refused."""

from __future__ import annotations

import pytest

from registry.upstream.url import Origin, Url, join_url, parse_url

HOST = Origin("https", "registry.example.org", 443)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://registry.example.org", Url(HOST, "/")),
        ("HTTPS://Registry.Example.ORG:443/v2/?a=b#c", Url(HOST, "/v2/?a=b")),
        ("http://registry.example.org:443/", Url(Origin("http", "registry.example.org", 443), "/")),
        ("https://registry.example.org./", Url(Origin("https", "registry.example.org.", 443), "/")),
        ("https://[2001:DB8::1]:5000/x", Url(Origin("https", "2001:db8::1", 5000), "/x")),
        ("https://registry.example.org/a b%20c\u00e9", Url(HOST, "/a%20b%20c%E9")),
        ("https://registry.example.org?X-Sig=a%2Fb/c+d==&x", Url(HOST, "/?X-Sig=a%2Fb/c+d==&x")),
    ],
)
def test_a_url_is_read(text: str, expected: Url) -> None:
    assert parse_url(text) == expected
    assert parse_url(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/v2/",
        "ftp://registry.example.org/",
        "file:///etc/passwd",
        "https://",
        "https://:443/",
        "https://user:password@registry.example.org/",
        "https://registry.example.org@10.0.0.1/",
        "https://registry.example.org\\@10.0.0.1/",
        "https://registry.example.org%00.example.com/",
        "https://regis\ttry.example.org/",
        "https://registry.example.org/\r\nHost: x",
        "https://registry.example.org:0/",
        "https://registry.example.org:99999/",
        "https://registry.example.org:password/",
        "https://[::1",
        "https://[fe80::1%25eth0]/",
        "https://[10.0.0.1]/",
        "https://b\u00fccher.example.org/",
        "https://\u0660.example.org/",
        "https://-x.example.org/",
    ],
)
def test_what_is_no_url_of_a_server_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL ") as raised:
        parse_url(text)
    assert "password" not in str(raised.value)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("/blobs/x?y=z", "https://registry.example.org/blobs/x?y=z"),
        ("x", "https://registry.example.org/v2/x"),
        ("//cdn.example.org/x", "https://cdn.example.org/x"),
        ("https://cdn.example.org:8443/x", "https://cdn.example.org:8443/x"),
        ("?n=5", "https://registry.example.org/v2/app?n=5"),
    ],
)
def test_a_reference_is_relative_to_the_url_that_answers_it(reference: str, expected: str) -> None:
    assert str(join_url(Url(HOST, "/v2/app"), reference)) == expected


def test_a_reference_with_control_characters_is_refused() -> None:
    with pytest.raises(ValueError, match="control"):
        join_url(Url(HOST, "/"), "https://cdn.exa\nmple.org/")
