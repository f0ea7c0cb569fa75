"""Mistakes that only this machine shows."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.config.check import check_address, check_port, check_settings, without_effect
from registry.config.sections import DatabaseSettings, HttpSettings, S3Settings, StorageSettings
from registry.config.settings import Settings, load_settings


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
