"""``--backend`` chooses what registries run over, and leaves out what only a local directory has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registry.config.settings import Settings
from tests.conftest import LOCAL, OTHERS
from tests.support.backends import BACKENDS, merged
from tests.support.replicas import Replicas
from tests.support.servers import RegistryProcess

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = """
import pytest
from tests.support.servers import RegistryProcess

@pytest.mark.local_storage("looks into the directory")
def test_local(backend): assert isinstance(backend.registry(None or __import__("pathlib").Path("x")), RegistryProcess)

@pytest.mark.replicas_too("asks a second server")
def test_replicas(backend): print("a second server for", backend.name)

def test_any(backend): print("backend is", backend.name)
"""


def select(directory: Path, *options: str) -> str:
    (directory / "test_example.py").write_text(EXAMPLE)
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = local_storage\n replicas_too\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-s", "-q"]
    done = subprocess.run(
        [*command, "-W", "ignore", *options, directory],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_the_option_offers_every_backend() -> None:
    assert (LOCAL, *OTHERS) == tuple(BACKENDS)


def test_everything_runs_on_local_storage_unless_told_otherwise(tmp_path: Path) -> None:
    assert "3 passed" in (said := select(tmp_path)), said
    assert "backend is local" in said


@pytest.mark.tools("fake-gcs-server")
def test_what_needs_a_local_directory_is_not_selected_for_another_backend(tmp_path: Path) -> None:
    said = select(tmp_path, "--backend", "gcs-sqlite")
    assert "1 passed, 2 deselected" in said, said
    assert "backend is gcs-sqlite" in said


def test_what_another_server_may_change_is_selected_for_replicas(tmp_path: Path) -> None:
    said = select(tmp_path, "--backend", "s3-postgresql", "--collect-only")
    assert "2/3 tests collected (1 deselected)" in said, said


def test_an_unknown_backend_is_refused_with_those_there_are(tmp_path: Path) -> None:
    assert "s3-postgresql" in select(tmp_path, "--backend", "tape")


def test_overrides_change_single_keys() -> None:
    first: dict[str, dict[str, object]] = {"storage": {"driver": "s3", "delete": True}, "log": {"level": "info"}}
    assert merged(first, {"storage": {"delete": False}, "http": {"workers": 2}}) == {
        "storage": {"driver": "s3", "delete": False},
        "log": {"level": "info"},
        "http": {"workers": 2},
    }


def test_local_is_one_process_on_a_directory(tmp_path: Path) -> None:
    made = BACKENDS["local"](tmp_path).registry(tmp_path / "registry", {"http": {"workers": 2}})
    assert isinstance(made, RegistryProcess)
    Settings.model_validate(made.config)


def test_s3_and_postgresql_are_two_replicas_that_share_a_bucket_and_a_database(tmp_path: Path) -> None:
    backend = BACKENDS["s3-postgresql"](tmp_path / "backend")
    try:
        first = backend.registry(tmp_path / "first", {"storage": {"delete": False}})
        second = backend.registry(tmp_path / "second")
        assert isinstance(first, Replicas)
        assert isinstance(second, Replicas)
        one, other = (replica.config for replica in first.replicas)
        for section in ("storage", "database"):
            assert one[section] == other[section]
            assert one[section] != second.replicas[0].config[section]
        assert Settings.model_validate(one).storage.delete is False
    finally:
        backend.close()
    backend.close()
