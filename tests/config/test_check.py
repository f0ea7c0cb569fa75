"""Mistakes that only this machine shows."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.config.check import check_address, check_port, check_settings, short_times, without_effect
from registry.config.sections import DatabaseSettings, HttpSettings, S3Settings, StorageSettings
from registry.config.settings import Settings, load_settings
from tests.support.authority import Authority


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
from registry.config.sections import StorageSettings
from registry.config.settings import Settings
from registry.config.check import check_settings
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


def test_an_audit_log_that_cannot_be_written_is_found_before_the_start(tmp_path: Path) -> None:
    def problems(file: Path) -> list[str]:
        return [problem.key for problem in check_settings(load(file))]

    def load(file: Path) -> Settings:
        (tmp_path / "config.json").write_text(json.dumps({"log": {"audit": {"file": str(file)}}}))
        return load_settings(tmp_path / "config.json")

    assert problems(tmp_path / "audit") == []
    assert not (tmp_path / "audit").exists()
    assert problems(tmp_path) == problems(tmp_path / "nowhere" / "audit") == ["log.audit.file"]


@pytest.mark.parametrize("host", ["", "a." + "b" * 64, ".."])
def test_a_host_that_is_none_is_a_mistake(host: str) -> None:
    (problem,) = check_port(HttpSettings(host=host, port=0))
    assert problem.key == "http.host"


def test_a_bucket_that_is_not_used_is_spoken_of() -> None:
    bucket = S3Settings(bucket="images")
    (problem,) = without_effect(Settings(storage=StorageSettings(s3=bucket)))
    assert problem.key == "storage.s3"
    assert without_effect(Settings(storage=StorageSettings(driver="s3", s3=bucket))) == []


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({}, []),
        ({"gc": {"lease": "2d", "grace": "1d"}, "storage": {"upload_expiry": "1h"}}, []),
        ({"gc": {"lease": "2d", "grace": "59m"}}, ["gc.grace"]),
        ({"gc": {"lease": 0, "grace": 0}}, ["gc.lease", "gc.grace"]),
        ({"gc": {"lease": "23h"}}, ["gc.lease"]),
        ({"gc": {"undelete_window": "59m"}}, ["gc.undelete_window"]),
        ({"gc": {"untagged_after": "23h"}}, ["gc.untagged_after"]),
        ({"gc": {"untagged_after": "1d", "undelete_window": "1h"}}, []),
        (
            {"gc": {"lease": "1m"}, "storage": {"upload_expiry": "1m"}},
            ["gc.lease", "storage.upload_expiry", "gc.lease"],
        ),
    ],
)
def test_a_time_in_which_a_push_may_lose_something_is_spoken_of(given: dict[str, Any], keys: list[str]) -> None:
    assert [problem.key for problem in short_times(Settings(**given))] == keys


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


def test_client_certificates_that_no_authority_is_named_for_are_no_setting(write: Any) -> None:
    tls = {
        "certificate": "/etc/hostname",
        "key": "/etc/hostname",
        "client_auth": "optional",
        "client_crl": "/etc/hostname",
    }
    settings = load_settings(write({"http": {"tls": tls}}))
    assert {problem.key for problem in check_settings(settings)} >= {"http.tls.client_auth", "http.tls.client_crl"}


def test_a_file_without_a_revocation_list_is_found_before_the_start(tmp_path: Path, write: Any) -> None:
    authority = Authority(tmp_path)
    own = authority.server("127.0.0.1")
    tls = {"certificate": str(own.pem), "key": str(own.key), "client_ca": str(authority.pem)}
    for content, expected in (
        ("nonsense", ["http.tls.client_crl"]),
        (authority.pem.read_text(), ["http.tls.client_crl"]),
        (authority.revocations(tmp_path / "made.pem").read_text(), []),
    ):
        (tmp_path / "revoked.pem").write_text(content)
        settings = load_settings(write({"http": {"tls": tls | {"client_crl": str(tmp_path / "revoked.pem")}}}))
        assert [problem.key for problem in check_settings(settings)] == expected


def test_the_host_of_a_mirror_is_not_the_registry_itself() -> None:
    mirror = {"name": "hub", "prefix": "docker.io", "url": ["https://hub.example.org"]}

    def settings(*hosts: str) -> Settings:
        keys: dict[str, Any] = {"http": {"external_url": "https://registry.example.org:8443"}}
        return Settings(**keys | {"mirrors": [mirror | {"hosts": hosts}]})

    (problem,) = check_settings(settings("m.example.org", "registry.example.org"))
    assert problem.key == "mirrors.0.hosts"
    assert "registry.example.org is the host of http.external_url" in problem.message
    assert check_settings(settings("m.example.org")) == []
