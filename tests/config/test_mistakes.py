"""Each mistake names its key and what would be right, and shows no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.config.file import ConfigError
from registry.config.settings import load_settings

SECRET = "hunter2"


def mistakes(path: Path | None) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    for problem in caught.value.problems:
        assert problem.key in str(caught.value)
        assert problem.message in str(caught.value)
    return {problem.key: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("document", "key", "message"),
    [
        ({"storage": {"fsynk": True}}, "storage.fsynk", "did you mean storage.fsync?"),
        ({"sotrage": {}}, "sotrage", "did you mean storage?"),
        ({"url": "x"}, "url", "did you mean database.url?"),
        ({"gc": {"zzz": 1}}, "gc.zzz", "gc has grace, interval, lease"),
        ({"access": {"quotas": [{"repositories": ["**"], "byts": 1}]}}, "access.quotas.0.byts", "access.quotas.bytes?"),
        ({"access": {"rules": [{"whom": ["bob"]}]}}, "access.rules.0.whom", "did you mean access.rules.who?"),
        ({"auth": {"oidc": [{"user": "sub"}, {"isuer": "x"}]}}, "auth.oidc.1.isuer", "did you mean auth.oidc.issuer?"),
        ({"http": {"tls": {"certificate": "/etc/hostname"}}}, "http.tls.key", "is missing"),
        ({"http": {"port": 70000}}, "http.port", "at most 65535"),
        ({"http": {"port": "many"}}, "http.port", '"many" is not a whole number'),
        ({"http": {"port": 1.5}}, "http.port", "1.5 is not a whole number"),
        ({"http": {"workers": 0}}, "http.workers", "at least 1"),
        ({"http": {"workers": "all"}}, "http.workers", '"all" is neither "auto" nor a whole number'),
        ({"http": {"workers": None}}, "http.workers", 'null is neither "auto" nor a whole number'),
        ({"http": {"external_url": "registry.example"}}, "http.external_url", "has no scheme"),
        ({"http": {"external_url": "ftp://registry.example"}}, "http.external_url", "https://registry.example.org"),
        (
            {"storage": {"s3": {"bucket": "b", "endpoint_url": "localhost:9000"}}},
            "storage.s3.endpoint_url",
            "no scheme",
        ),
        ({"storage": {"s3": {"bucket": "b", "endpoint_url": "http://[::1"}}}, "storage.s3.endpoint_url", "an address"),
        (
            {"storage": {"gcs": {"bucket": "bbb", "endpoint_url": "http://h:x"}}},
            "storage.gcs.endpoint_url",
            "an address",
        ),
        ({"storage": {"root_directory": ""}}, "storage.root_directory", "is empty"),
        ({"storage": {"root_directory": "a\0b"}}, "storage.root_directory", "a character that no name"),
        ({"storage": {"redirect": [{"networks": ["\ud800"]}]}}, "storage.redirect.0.networks.0", "a character"),
        ({"storage": {"s3": {"bucket": ""}}}, "storage.s3.bucket", "is no name that a bucket can have"),
        ({"storage": {"s3": {"bucket": "s3://images/x"}}}, "storage.s3.bucket", "is no name that a bucket can have"),
        ({"storage": {"gcs": {"bucket": "gs://images"}}}, "storage.gcs.bucket", "is no name that a bucket can have"),
        ({"storage": {"redirect": "yes"}}, "storage.redirect", '"yes" is neither off, on, nor a list of rules'),
        ({"storage": {"redirect": True}}, "storage.redirect", "true is neither off, on, nor a list of rules"),
        ({"storage": {"redirect": [{"agents": "x"}]}}, "storage.redirect.0.agents", "there is no such key"),
        ({"storage": {"redirect": ["on"]}}, "storage.redirect.0", '"on" is not an object such as {...}'),
        ({"http": {"trusted_proxies": ["1.2.3.4/8"]}}, "http.trusted_proxies.0", "10.0.0.0/8"),
        ({"http": {"trusted_proxies": 5}}, "http.trusted_proxies", "[...]"),
        ({"http": []}, "http", "{...}"),
        ({"http": {"tls": {"certificate": "/nowhere", "key": "/nowhere"}}}, "http.tls.key", "path of a file"),
        ({"http": {"idle_timeout": 0}}, "http.idle_timeout", "more than 0"),
        ({"storage": {"fsync": "maybe"}}, "storage.fsync", "neither true nor false"),
        ({"storage": {"driver": "s4"}}, "storage.driver", "'local'"),
        ({"storage": {"root_directory": 5}}, "storage.root_directory", "path"),
        ({"database": {"url": "mysql://x"}}, "database.url", "postgresql+psycopg://"),
        ({"manifests": {"missing_blobs": "ignore"}}, "manifests.missing_blobs", "'reject' or 'accept'"),
        ({"log": {"level": 3}}, "log.level", "'debug', 'info', 'warning' or 'error'"),
        ({"gc": {"lease": None}}, "gc.lease", "not a number"),
        ({"gc": {"lease": float("inf")}}, "gc.lease", "not a number"),
        ({"gc": {"lease": -1}}, "gc.lease", "at least 0"),
        ({"gc": {"interval": "soon"}}, "gc.interval", '"soon" is no duration'),
        ({"gc": {"interval": 0}}, "gc.interval", "more than 0"),
        ({"gc": {"rate": 0}}, "gc.rate", "more than 0"),
        ({"gc": {"grace": "two days"}}, "gc.grace", '"two days" is no duration'),
    ],
)
def test_a_mistake_in_the_file_names_its_key_and_what_would_be_right(
    write: Any, document: object, key: str, message: str
) -> None:
    assert message in mistakes(write(document))[key]


def test_every_mistake_is_reported_at_once(write: Any) -> None:
    assert mistakes(write({"gc": {"lease": -1}, "storage": {"fsynk": 1}, "log": 3})).keys() == {
        "gc.lease", "storage.fsynk", "log",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "key", "message"),
    [
        ("REGISTRY_STORAGE__FSINC", "storage.fsinc", "did you mean storage.fsync?"),
        ("REGISTRY_SORTAGE__FSYNC", "sortage", "did you mean storage?"),
        ("REGISTRY_HTTP__PORT", "http.port", '"x" is not a whole number'),
        ("REGISTRY_HTTP__PORT__MORE", "http.port", "not a whole number"),
    ],
)
def test_a_mistake_in_the_environment_names_the_key_and_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, key: str, message: str
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigError) as caught:
        load_settings(None)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert message in problem.message
    assert problem.source == variable
    assert variable in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("database", "url", "mysql://user:hunter2@host/db"),
        ("database", "url", "mysql://host/db?password=hunter2"),
        ("database", "url", "postgresql://user:p:hunter2@x@host/db"),
        ("database", "url", "postgresql://user:hunter2@host:port/db"),
        ("database", "url", "postgresql://user:hunter2@host:99999/db"),
        ("database", "url", "postgresql://[::1:5432/hunter2"),
        ("database", "url", "postgresql://u@host:hunter2/db"),
        ("database", "url", {"password": "hunter2"}),
        ("s3", "endpoint_url", "http://user:hunter2@127.0.0.1:9000"),
        ("s3", "endpoint_url", "http://127.0.0.1:9000?token=hunter2"),
        ("s3", "endpoint_url", "http://127.0.0.1:hunter2"),
        ("s3", "redirect_endpoint_url", "ftp://hunter2@host"),
        ("s3", "secret_access_key", ["hunter2"]),
        ("s3", "access_key_id", ["hunter2"]),
        ("gcs", "endpoint_url", "http://user:hunter2@127.0.0.1:4443"),
        ("http", "external_url", "https://user:hunter2@registry.example.org"),
        ("database", "timeout", "postgresql://host?password=hunter2"),
    ],
)
def test_a_mistake_names_its_key_and_does_not_print_a_secret(write: Any, section: str, key: str, value: object) -> None:
    given: dict[str, object] = {section: {key: value}}
    if section in {"s3", "gcs"}:
        given = {"storage": {section: {"bucket": "bucket", key: value}}}
    with pytest.raises(ConfigError) as caught:
        load_settings(write(given))
    (problem,) = caught.value.problems
    assert problem.key.endswith(f"{section}.{key}")
    assert SECRET not in str(caught.value)
    assert SECRET not in json.dumps(caught.value.document())
