"""Where settings come from, and that their schema, example and documentation have every key."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest
from pydantic import BaseModel, ValidationError

from registry.config.access_sections import (
    AccessRule,
    AccessSettings,
    AuthSettings,
    CertificateSettings,
    HtpasswdSettings,
    ImmutableSettings,
    KeySettings,
    QuotaSettings,
    ThrottleSettings,
)
from registry.config.mirror_sections import MirrorSettings
from registry.config.mistakes import dotted_keys
from registry.config.retention_sections import Conditions, KeepSettings, RetentionRule
from registry.config.sections import GcsSettings, HttpSettings, PricesSettings, S3Settings, StorageSettings, TlsSettings
from registry.config.settings import Settings, load_settings
from registry.config.token_sections import ExternalTokenSettings, LoginSettings, OidcSettings, TokenSettings
from registry.config.upstream_sections import (
    BasicCredentials,
    DockerConfigCredentials,
    EcrCredentials,
    GoogleCredentials,
)

ROOT = Path(__file__).parent.parent.parent
OPTIONAL: dict[str, type[BaseModel]] = {
    "http.tls": TlsSettings,
    "storage.s3": S3Settings,
    "storage.gcs": GcsSettings,
    "auth": AuthSettings,
    "auth.htpasswd": HtpasswdSettings,
    "auth.token": TokenSettings,
    "auth.token.external": ExternalTokenSettings,
    "auth.keys": KeySettings,
    "auth.certificates": CertificateSettings,
    "auth.oidc": OidcSettings,
    "auth.oidc.login": LoginSettings,
    "auth.throttle": ThrottleSettings,
    "access": AccessSettings,
    "access.rules": AccessRule,
    "access.immutable": ImmutableSettings,
    "access.quotas": QuotaSettings,
    "retention.rules": RetentionRule,
    "retention.rules.keep": KeepSettings,
    "retention.rules.keep.any": Conditions,
    "retention.rules.keep.all": Conditions,
    "mirrors": MirrorSettings,
}
"""Sections that are null by default, or entries of a list; the example has their keys in a comment."""
NESTED: dict[str, type[BaseModel]] = {
    "migration.prices": PricesSettings,
}
"""Sections inside of others that are always there."""


SECRET = "hunter2"


def test_without_a_file_the_defaults_serve_local_disk_on_loopback() -> None:
    settings = load_settings(None)
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 5000)
    assert settings.database_url == "sqlite:///registry-data/.database/registry.db"


def test_the_file_overrides_defaults_and_the_environment_overrides_the_file(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({"http": {"port": 6000, "workers": 3}, "storage": {"root_directory": "/srv"}})
    monkeypatch.setenv("REGISTRY_HTTP__PORT", "7000")
    settings = load_settings(path)
    assert (settings.http.port, settings.http.workers) == (7000, 3)
    assert settings.database_url == "sqlite:////srv/.database/registry.db"


def test_the_environment_reaches_inside_values_given_in_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_STORAGE__FSYNC", "false")
    settings = Settings(storage=StorageSettings(root_directory=Path("/srv")))
    assert settings.storage == StorageSettings(root_directory=Path("/srv"), fsync=False)


@pytest.mark.parametrize(
    ("variable", "value", "section", "key", "expected"),
    [
        ("REGISTRY_STORAGE__DEDUPE", "off", "storage", "dedupe", False),
        ("REGISTRY_HTTP__DRAIN_TIMEOUT", "2.5", "http", "drain_timeout", 2.5),
        ("REGISTRY_HTTP__TRUSTED_PROXIES", "10.0.0.0/8, ::1", "http", "trusted_proxies", ["10.0.0.0/8", "::1/128"]),
        ("REGISTRY_HTTP__TRUSTED_PROXIES", '["10.1.2.3"]', "http", "trusted_proxies", ["10.1.2.3/32"]),
        ("REGISTRY_HTTP__TRUSTED_PROXIES", "[]", "http", "trusted_proxies", []),
        ("REGISTRY_HTTP__EXTERNAL_URL", "", "http", "external_url", None),
        ("REGISTRY_HTTP__EXTERNAL_URL", "null", "http", "external_url", None),
        ("REGISTRY_HTTP__EXTERNAL_URL", "https://r.example/", "http", "external_url", "https://r.example"),
    ],
)
def test_the_environment_holds_text_lists_and_null(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, section: str, key: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    assert load_settings(None).masked()[section][key] == expected


def test_variables_that_kubernetes_sets_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PORT", "tcp://10.0.0.1:5000")
    monkeypatch.setenv("REGISTRY_HTTP", "nonsense")
    monkeypatch.setenv("REGISTRY_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("REGISTRY__ODD", "1")
    assert load_settings(None) == Settings()


def test_comments_are_dropped_at_every_depth(write: Any) -> None:
    path = write('{"#": 1, "#": 2, "http": {"# port": "why", "port": 1}, "storage": {"#": []}}')
    assert load_settings(path).http == HttpSettings(port=1)


def test_settings_survive_pickling_for_worker_processes(write: Any) -> None:
    settings = load_settings(write({"http": {"port": 1}}))
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(None)
    with pytest.raises(ValidationError, match="frozen"):
        settings.http.port = 1
    with pytest.raises(ValidationError, match="frozen"):
        settings.http = HttpSettings()


def test_what_stands_for_the_settings_in_a_trace_has_no_password(write: Any) -> None:
    url = "postgresql+psycopg://u:hunter2@h/db"
    settings = load_settings(
        write({"database": {"url": url}, "storage": {"s3": {"bucket": "b", "secret_access_key": SECRET}}})
    )
    assert SECRET not in repr(settings)
    assert SECRET not in json.dumps(settings.masked())


def test_every_key_has_a_description() -> None:
    schema = Settings.json_schema()
    for model in (schema, *schema["$defs"].values()):
        for name, field in model["properties"].items():
            described = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
            assert described.get("description"), name


def test_the_schema_accepts_the_example_and_rejects_a_typo() -> None:
    schema = Settings.json_schema()
    example = json.loads((ROOT / "config.json.example").read_text())
    jsonschema_rs.validate(schema, example)
    example["http"]["prot"] = 1
    assert not jsonschema_rs.is_valid(schema, example)


def test_the_example_has_every_key_with_its_default() -> None:
    path = ROOT / "config.json.example"
    assert load_settings(path) == Settings()
    document = json.loads(path.read_text())
    for key in dotted_keys(Settings):
        section, _, last = key.rpartition(".")
        if section in OPTIONAL:
            assert last in example_of(document, section), key
            continue
        value: Any = document
        for name in key.split("."):
            assert name in value, key
            value = value[name]


def example_of(document: Any, section: str) -> Any:
    """The example of an optional section, which may be in that of another one."""
    parent, _, optional = section.rpartition(".")
    if parent in OPTIONAL:
        return merged(example_of(document, parent)[optional])
    return merged((document[parent] if parent else document)[f"# {optional} example"])


def merged(found: Any) -> Any:
    """The keys of all entries of a list, as one section has them."""
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        return found
    keys: dict[str, list[Any]] = {}
    for entry in found:
        for key, value in entry.items():
            keys.setdefault(key, []).append(value)
    sections = {key: [value for value in values if isinstance(value, dict)] for key, values in keys.items()}
    return {key: merged(sections[key]) if sections[key] else values[-1] for key, values in keys.items()}


def test_the_documentation_has_every_key_with_its_default_and_description() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    missing = [line for line in documented_keys() if line not in text]
    assert not missing, "docs/configuration.md lacks or differs in:\n" + "\n".join(missing)


def documented_keys() -> list[str]:
    """The rows of the table of docs/configuration.md, from the settings themselves."""
    defaults = Settings().masked()
    rows = []
    for section, section_field in Settings.model_fields.items():
        model = section_field.default.__class__
        if not isinstance(section_field.default, BaseModel):
            continue
        for name, field in model.model_fields.items():
            default = json.dumps(defaults[section][name]).removesuffix(".0")
            rows.append(f"| `{section}.{name}` | `{default}` | {field.description} |")
    for section, inner in (OPTIONAL | NESTED).items():
        for attribute, field in inner.model_fields.items():
            name = field.alias or attribute
            default = "required" if field.is_required() else f"`{json.dumps(plain(field.default))}`"
            rows.append(f"| `{section}.{name}` | {default} | {field.description} |")
    for kind in (BasicCredentials, DockerConfigCredentials, EcrCredentials, GoogleCredentials):
        (word,) = get_args(kind.model_fields["kind"].annotation)
        for name, field in kind.model_fields.items():
            if name != "kind":
                default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
                rows.append(f"| `mirrors.credentials.{name}` ({word}) | {default} | {field.description} |")
    return rows


def plain(value: object) -> object:
    """A default as a JSON value."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    return value
