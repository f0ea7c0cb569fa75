"""Settings with which strangers would get in, or passwords would cross the network in plain text."""

from __future__ import annotations

from typing import Any

import pytest

from registry.config.access_check import check_access
from registry.config.settings import Settings

PROVIDER = {"name": "ci", "issuer": "https://ci.example.org", "audiences": ["registry"]}


def rule(who: str, **more: Any) -> dict[str, Any]:
    return {"who": [who], "repositories": ["**"], "actions": ["pull"], **more}


def keys(**sections: Any) -> list[str]:
    return [problem.key for problem in check_access(Settings(**sections))]


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"http": {"host": "0.0.0.0"}},
        {"auth": {}},
        {"auth": {}, "http": {"host": "0.0.0.0", "external_url": "https://registry.example.org"}},
        {"auth": {"insecure": True}, "http": {"host": "0.0.0.0"}},
        {"auth": {"oidc": [PROVIDER]}, "access": {"rules": [rule("oidc:ci", claims={"ref": "main"})]}},
        {"auth": {"oidc": [PROVIDER]}, "access": {"rules": [rule("oidc:ci", repositories=["{project}/**"])]}},
        {"auth": {"oidc": [PROVIDER]}, "access": {"rules": [rule("oidc:ci/team/app")]}},
        {"auth": {"oidc": [PROVIDER | {"any_identity": True}]}, "access": {"rules": [rule("oidc:ci")]}},
        {"access": {"rules": [rule("anonymous")]}},
        {"auth": {"certificates": {"header": "Client-Cert"}}},
        {"auth": {}, "metrics": {"protect": True}},
    ],
)
def test_settings_that_can_be_meant(sections: dict[str, Any]) -> None:
    assert keys(**sections) == []


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"auth": {}, "http": {"host": "0.0.0.0"}}, "http.external_url"),
        ({"auth": {"oidc": [PROVIDER]}}, "auth.oidc"),
        ({"auth": {"oidc": [PROVIDER, PROVIDER]}, "access": {}}, "auth.oidc"),
        ({"auth": {"oidc": [PROVIDER]}, "access": {"rules": [rule("oidc:ci")]}}, "access.rules.0.who"),
        (
            {
                "auth": {"oidc": [PROVIDER]},
                "access": {"rules": [rule("oidc:ci", repositories=["{project}/**", "shared/**"])]},
            },
            "access.rules.0.who",
        ),
        ({"auth": {}, "access": {"rules": [rule("alice"), rule("oidc:ci")]}}, "access.rules.1.who"),
        ({"access": {"rules": [rule("oidc:ci")]}}, "access.rules.0.who"),
        ({"auth": {"certificates": {}}}, "auth.certificates"),
        ({"metrics": {"protect": True}}, "metrics.protect"),
        ({"metrics": {"protect": True}, "access": {}}, "metrics.protect"),
        (
            {"auth": {"certificates": {"header": "Client-Cert"}}, "http": {"trusted_proxies": []}},
            "auth.certificates.header",
        ),
    ],
)
def test_settings_that_let_strangers_in_or_show_passwords(sections: dict[str, Any], key: str) -> None:
    assert keys(**sections) == [key]
