"""Namespaces that mean the same registry are one key, and every other one stays apart."""

from __future__ import annotations

import pytest

from registry.config.namespaces import normal_namespace


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("docker.io", "docker.io"),
        ("Docker.IO", "docker.io"),
        (" docker.io ", "docker.io"),
        ("docker.io:443", "docker.io"),
        ("docker.io.", "docker.io"),
        ("docker.io.:443", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io:443", "docker.io"),
        ("registry.example.org:5000", "registry.example.org:5000"),
        ("registry.example.org:80", "registry.example.org:80"),
        ("registry.example.org:4430", "registry.example.org:4430"),
        ("[::1]:443", "[::1]"),
        ("notdocker.io", "notdocker.io"),
        ("docker.io/evil", "docker.io/evil"),
        ("", ""),
    ],
)
def test_a_namespace_has_one_form(text: str, normal: str) -> None:
    assert normal_namespace(text) == normal
    assert normal_namespace(normal) == normal
