"""URLs of databases and how they are shown, and which addresses are trusted."""

from __future__ import annotations

from typing import Any

import pytest

from registry.config.settings import load_settings
from registry.config.urls import is_trustworthy


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////srv/a.db", "sqlite:////srv/a.db"),
        ("postgresql+psycopg://u@h/db", "postgresql+psycopg://u@h/db"),
        (
            "postgresql+psycopg://u:p%40s@h:5/db?sslmode=require",
            "postgresql+psycopg://u:********@h:5/db?sslmode=require",
        ),
        (
            "postgresql+psycopg://u:secret:x@h/db?password=secret",
            "postgresql+psycopg://u:********@h/db?password=********",
        ),
        (
            "postgresql://u:a/b@h/db?sslmode=require&SSLpassw%6Frd=x&oauth_client_secret=y",
            "postgresql://u:********@h/db?sslmode=require&SSLpassw%6Frd=********&oauth_client_secret=********",
        ),
    ],
)
def test_passwords_are_masked(write: Any, url: str, shown: str) -> None:
    assert load_settings(write({"database": {"url": url}})).masked()["database"]["url"] == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql+psycopg://postgres@/test?host=/tmp/socket",
        "postgresql+psycopg://u:a%40b/c:d@[::1]:5432/db?sslmode=require",
        "postgresql://host.example.org:5432/registry",
        "sqlite:///:memory:",
    ],
)
def test_urls_that_a_database_has_are_taken(write: Any, url: str) -> None:
    assert load_settings(write({"database": {"url": url}})).database_url == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://issuer.example.org/x", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000", True),
        ("http://localhost/x", True),
        ("http://issuer.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://localhost@example.org/", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_only_tls_and_this_machine_are_trusted(url: str, expected: bool) -> None:
    assert is_trustworthy(url) is expected
