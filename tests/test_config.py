"""Settings: where they come from, and that each mistake names its key and what would be right."""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel, ValidationError

from registry.config import (
    ConfigError,
    DatabaseSettings,
    GcsSettings,
    HttpSettings,
    PricesSettings,
    S3Settings,
    Settings,
    StorageSettings,
    TlsSettings,
    load_settings,
)
from registry.config_check import check_address, check_port, check_settings, without_effect
from registry.config_file import ConfigProblem, Sources, read_file
from registry.config_foreign import OURS
from registry.config_mistakes import dotted_keys

ROOT = Path(__file__).parent.parent
OPTIONAL: dict[str, type[BaseModel]] = {"http.tls": TlsSettings, "storage.s3": S3Settings, "storage.gcs": GcsSettings}
"""Sections that are null by default; the example has their keys in a comment."""
NESTED: dict[str, type[BaseModel]] = {"migration.prices": PricesSettings}
"""Sections inside of others that are always there."""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(document: object) -> Path:
        path = tmp_path / "config.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write_file


def mistakes(path: Path | None) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    for problem in caught.value.problems:
        assert problem.key in str(caught.value)
        assert problem.message in str(caught.value)
    return {problem.key: problem.message for problem in caught.value.problems}


# ---- where values come from


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


# ---- mistakes


@pytest.mark.parametrize(
    ("document", "key", "message"),
    [
        ({"storage": {"fsynk": True}}, "storage.fsynk", "did you mean storage.fsync?"),
        ({"sotrage": {}}, "sotrage", "did you mean storage?"),
        ({"url": "x"}, "url", "did you mean database.url?"),
        ({"gc": {"zzz": 1}}, "gc.zzz", "gc has lease"),
        ({"http": {"tls": {"certificate": "/etc/hostname"}}}, "http.tls.key", "is missing"),
        ({"http": {"port": 70000}}, "http.port", "at most 65535"),
        ({"http": {"port": "many"}}, "http.port", '"many" is not a whole number'),
        ({"http": {"port": 1.5}}, "http.port", "1.5 is not a whole number"),
        ({"http": {"workers": 0}}, "http.workers", "at least 1"),
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
    ("content", "message"),
    [
        ('{\n  "http": {\n    port: 1}}', "line 3, column 5"),
        ("", "is empty; {} is the least"),
        (" \n", "is empty"),
        ("http:\n  port: 5000\n", "looks like YAML; the file is JSON"),
        ("# ours\nversion: 0.1\n", "looks like YAML"),
        ("---\nhttp: {}\n", "looks like YAML"),
        ("[http]\nport = 5000\n", "looks like TOML"),
        ('{\n// why\n"http": {}}', "line 2, column 1: JSON has no comments; keys that begin with #"),
        ('{"http": {}, # why\n}', "JSON has no comments"),
        ('{"http": {"port": 1,}}', "a comma stands before the end"),
        ("{'http': {}}", "text stands in double quotes"),
        ('{"storage": {"fsync": True}}', "the words are true, false and null"),
        ('{"http": {"port": ' + "1" * 5000 + "}}", "without end"),
        ("[" * 100_000, "without end"),
        ("[1]", "one JSON object"),
        ('{"http": {"port": 1, "port": 2}}', "'port' twice"),
        ('{"http": NaN}', "http"),
    ],
)
def test_a_file_that_is_no_json_object_says_where(write: Any, content: str, message: str) -> None:
    path = write(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert message in str(caught.value)


def test_a_file_may_begin_with_a_byte_order_mark(write: Any) -> None:
    assert load_settings(write('\ufeff{"http": {"port": 1}}')).http.port == 1


def test_a_file_without_end_is_not_read_into_memory() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: is larger than 16 MiB"):
        load_settings(Path("/dev/zero"))


def test_a_mistake_says_in_which_file_it_is_and_several_say_it_once(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({"http": {"port": 0.5, "tls": {"certificate": "/etc/hostname"}}, "storage": {"fsynk": 1}, "log": 3})
    monkeypatch.setenv("REGISTRY_GC__LEASE", "never")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    sources = {problem.key: problem.source for problem in caught.value.problems}
    assert sources == {
        "http.port": str(path), "http.tls.key": str(path), "storage.fsynk": str(path), "log": str(path),
        "gc.lease": "REGISTRY_GC__LEASE",
    }  # fmt: skip
    assert str(caught.value).count(str(path)) in {1, 2}  # twice where the variable stands between them


def test_what_the_machine_lacks_has_the_source_of_its_key(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write({"storage": {"root_directory": "/x"}})
    sources = Sources({"REGISTRY_STORAGE__S3__BUCKET": "b", "REGISTRY_HTTP__PORT": "5"}, path, read_file(path))
    keys = ("storage.root_directory", "http.port", "storage.s3", "database.url")
    error = ConfigError([ConfigProblem(key, "is wrong", "") for key in keys]).located(sources)
    assert [problem.source for problem in error.problems] == [str(path), "REGISTRY_HTTP__PORT", "", ""]


# ---- variables of other registries, and of ours with one underscore


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


def test_a_file_that_is_not_utf8_or_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"\xff": 1}')
    with pytest.raises(ConfigError, match="latin: is not UTF-8: byte 2"):
        load_settings(tmp_path / "latin")
    with pytest.raises(ConfigError, match="absent: cannot be read: No such file"):
        load_settings(tmp_path / "absent")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_settings(tmp_path)


# ---- what this machine lacks


def test_a_root_that_is_no_directory_is_found_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert check_settings(Settings(storage=StorageSettings(root_directory=tmp_path / "new" / "deep"))) == []
    (problem,) = check_settings(Settings(storage=StorageSettings(root_directory=tmp_path / "file")))
    assert problem.key == "storage.root_directory"
    assert "not a directory" in problem.message


def test_a_root_that_cannot_be_made_is_found_before_the_start() -> None:
    root = Path("/proc/nowhere/data")  # where root itself has every right, and nothing can be made
    (problem,) = check_settings(Settings(storage=StorageSettings(root_directory=root)))
    assert problem.key == "storage.root_directory"
    assert "/proc" in problem.message


def test_a_root_in_a_directory_that_may_not_be_entered_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o600)
    root = tmp_path / "closed" / "inner" / "data"
    checked = f"""
import os
from pathlib import Path
from registry.config import Settings, StorageSettings
from registry.config_check import check_settings
settings = Settings(storage=StorageSettings(root_directory=Path({str(root)!r})))
os.geteuid() or os.setuid(65534)
print([problem.key for problem in check_settings(settings)])
"""
    done = subprocess.run([sys.executable, "-c", checked], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "['storage.root_directory']\n", done.stderr


def test_a_name_that_is_too_long_is_found_before_the_start(tmp_path: Path) -> None:
    root = tmp_path / "new" / ("x" * 256)
    (problem,) = check_settings(Settings(storage=StorageSettings(root_directory=root)))
    assert problem.key == "storage.root_directory"
    assert "255" in problem.message


@pytest.mark.parametrize("host", ["", "a." + "b" * 64, ".."])
def test_a_host_that_is_none_is_a_mistake(host: str) -> None:
    (problem,) = check_port(HttpSettings(host=host, port=0))
    assert problem.key == "http.host"


def test_a_bucket_that_is_not_used_is_spoken_of() -> None:
    bucket = S3Settings(bucket="images")
    (problem,) = without_effect(Settings(storage=StorageSettings(s3=bucket)))
    assert problem.key == "storage.s3"
    assert without_effect(Settings(storage=StorageSettings(driver="s3", s3=bucket))) == []


def test_a_database_that_cannot_be_one_file_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for place, wrong in (
        ("registry.db", 0), ("new/registry.db", 0), ("no/such/registry.db", 1), ("directory", 1), (":memory:", 1),
    ):  # fmt: skip
        settings = Settings(
            storage=StorageSettings(root_directory=tmp_path),
            database=DatabaseSettings(url=f"sqlite:///{tmp_path}/{place}"),
        )
        found = check_settings(settings)
        assert [problem.key for problem in found] == ["database.url"] * wrong


def test_a_port_in_use_is_no_mistake_of_the_configuration_and_one_that_is_not_permitted_is() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        http = HttpSettings(port=other.getsockname()[1])
        assert [problem.key for problem in check_port(http)] == ["http.port"]
        problems, (note,) = check_address(http)
        assert problems == []
        assert str(http.port) in note
    problems, notes = check_address(HttpSettings(host="192.0.2.1"))
    assert [problem.key for problem in problems] == ["http.host"]
    assert notes == []


def test_a_certificate_that_is_none_is_found_before_the_start(write: Any, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("nonsense")
    pem = str(tmp_path / "pem")
    settings = load_settings(write({"http": {"tls": {"certificate": pem, "key": pem, "client_ca": pem}}}))
    assert [problem.key for problem in check_settings(settings)] == ["http.tls.certificate", "http.tls.client_ca"]


# ---- what is shown of it


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


SECRET = "hunter2"


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
            parent, _, optional = section.rpartition(".")
            assert last in document[parent][f"# {optional} example"], key
            continue
        value: Any = document
        for name in key.split("."):
            assert name in value, key
            value = value[name]


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
        for name, field in model.model_fields.items():
            default = json.dumps(defaults[section][name]).removesuffix(".0")
            rows.append(f"| `{section}.{name}` | `{default}` | {field.description} |")
    for section, inner in (OPTIONAL | NESTED).items():
        for name, field in inner.model_fields.items():
            default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
            rows.append(f"| `{section}.{name}` | {default} | {field.description} |")
    return rows
