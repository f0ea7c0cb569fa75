"""Variables of other registries, and of ours with one underscore."""

from __future__ import annotations

import pytest

from registry.config.check import check_settings, without_effect
from registry.config.foreign import OURS
from registry.config.mistakes import dotted_keys
from registry.config.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("variable", "value", "ours"),
    [
        ("REGISTRY_HTTP_ADDR", ":5000", ["REGISTRY_HTTP__HOST", "REGISTRY_HTTP__PORT"]),
        ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/var/lib/registry", ["REGISTRY_STORAGE__ROOT_DIRECTORY"]),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "true", ["REGISTRY_STORAGE__DELETE"]),
        ("REGISTRY_STORAGE_S3_BUCKET", "images", ["REGISTRY_STORAGE__S3__BUCKET"]),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c.pem", ["REGISTRY_HTTP__TLS__CERTIFICATE"]),
        ("REGISTRY_PROXY_REMOTEURL", "https://example.org", ["nothing like it"]),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{}", ["nothing like it"]),
        ("REGISTRY_HTTP_PORT", "5318", ["did you mean REGISTRY_HTTP__PORT?"]),
        ("REGISTRY_STORAGE_FSYNC", "off", ["did you mean REGISTRY_STORAGE__FSYNC?"]),
        ("REGISTRY_DATABASE_URL", "sqlite:///x", ["did you mean REGISTRY_DATABASE__URL?"]),
    ],
)
def test_a_variable_without_effect_is_named_with_ours(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, ours: list[str]
) -> None:
    monkeypatch.setenv(variable, value)
    settings = load_settings(None)
    assert settings == Settings()
    assert check_settings(settings) == []
    (problem,) = without_effect(settings)
    assert problem.source == variable
    assert all(name in problem.message for name in ours), problem.message


def test_every_name_of_ours_that_stands_for_another_is_one() -> None:
    assert {key for keys in OURS.values() for key in keys} <= set(dotted_keys(Settings))


@pytest.mark.parametrize(
    "variable",
    ["REGISTRY_AUTH", "REGISTRY_AUTH_HTPASSWD_PATH", "REGISTRY_AUTH_HTPASSWD_REALM", "REGISTRY_AUTH_TOKEN_SERVICE"],
)
def test_a_variable_of_authentication_refuses_the_start(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "htpasswd")
    (problem,) = check_settings(load_settings(None))
    assert (problem.key, problem.source) == ("auth", variable)
    assert "remove it" in problem.message


def test_what_kubernetes_sets_for_services_is_nothing_to_speak_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("", "AUTH_", "AUTH_TOKEN_", "HTTP_", "REDIS_", "STORAGE_S3_", "PROXY_"):
        address = f"REGISTRY_{service}PORT_5000_TCP"
        values = {
            f"REGISTRY_{service}SERVICE_HOST": "10.0.0.1",
            f"REGISTRY_{service}SERVICE_PORT": "5000",
            f"REGISTRY_{service}SERVICE_PORT_HTTP": "5000",
            f"REGISTRY_{service}PORT": "tcp://10.0.0.1:5000",
            address: "tcp://10.0.0.1:5000",
            f"{address}_PROTO": "tcp",
            f"{address}_PORT": "5000",
            f"{address}_ADDR": "10.0.0.1",
        }
        for name, value in values.items():
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("REGISTRY_NAME", "x")
    monkeypatch.setenv("REGISTRY_HTTP_ADDR", "")
    settings = load_settings(None)
    assert check_settings(settings) == []
    assert without_effect(settings) == []
