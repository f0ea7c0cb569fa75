"""The wheel in an environment that has what it declares and nothing else: all that users do first has to work there."""

from __future__ import annotations

import json
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry import DISTRIBUTION
from tests.server.sending import Client
from tests.support.gcs_server import GcsServer
from tests.support.payloads import Blob, image
from tests.support.s3_server import S3Server
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.postgresql import Cluster
    from tests.wheel.installed import Environment

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
IMPORT_ALL = """
import importlib, json, pkgutil, registry
missing = {}
for module in pkgutil.walk_packages(registry.__path__, "registry."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        missing[module.name] = str(error)
print(json.dumps(missing))
"""
CONFIG = Blob(b"{}")
LAYER = Blob(b"layer" * 1000)
IMAGE = image(CONFIG, [LAYER])

Config = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    with GcsServer(tmp_path_factory.mktemp("gcs")) as store:
        yield store


def files_of_project(*directories: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *directories], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


# ---- what is in it


def test_the_wheel_has_the_package_with_its_migrations_and_nothing_else(wheel: Path) -> None:
    migrations = {f"registry/{name}" for name in files_of_project("migrations")}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == files_of_project("registry") | migrations
        (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert archive.read(entry_points).decode().split("\n", 1)[1].strip() == "registry = registry.cli.main:main"
    assert wheel.name.startswith(DISTRIBUTION.replace("-", "_"))


def test_the_source_distribution_has_the_project(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = files_of_project(
        "registry", "migrations", "tests", "benchmarks", "docs", "Makefile", "config.json.example"
    )
    assert wanted <= names
    assert not [
        name for name in names if "__pycache__" in name or name.startswith(("results", "registry-data", ".dev"))
    ]


# ---- without extras: before the tests that follow, which add one to the same environment


def test_every_module_can_be_imported_but_for_those_of_postgresql(plain: Environment) -> None:
    missing = json.loads(plain.python(IMPORT_ALL))
    assert missing
    for module, why in missing.items():
        assert module.startswith("registry.database."), f"{module}: {why}"
        assert why == "No module named 'psycopg'"


def test_it_says_its_version(plain: Environment) -> None:
    said = plain.command("--version")
    assert (said.returncode, said.stdout.split()[0]) == (0, "registry")


def test_postgresql_without_its_package_names_what_is_missing(plain: Environment, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"database": {"url": "postgresql+psycopg://registry@db.example.org/registry"}}')
    for command in (("config", "check"), ("serve",), ("rebuild",), ("db", "upgrade")):
        said = plain.command(*command, "--config", str(config))
        assert said.returncode == 2, said.stderr
        assert "database.url" in said.stderr
        assert "pip install 'psycopg[binary]'" in said.stderr


def test_it_serves_a_directory(plain: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_push_and_pull(plain, tmp_path, {}, monkeypatch)


@pytest.mark.tools("versitygw")
def test_it_serves_a_bucket_of_s3(
    plain: Environment, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Config = {"storage": s3.storage(s3.new_bucket()), "database": {"url": f"sqlite:///{tmp_path}/registry.db"}}
    check_push_and_pull(plain, tmp_path, config, monkeypatch)


@pytest.mark.tools("fake-gcs-server")
def test_it_serves_a_bucket_of_google(
    plain: Environment, gcs: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Config = {
        "storage": gcs.storage(gcs.new_bucket()),
        "database": {"url": f"sqlite:///{tmp_path}/registry.db"},
    }
    check_push_and_pull(plain, tmp_path, config, monkeypatch)


# ---- with the extra


def test_with_the_extra_every_module_can_be_imported(with_postgresql: Environment) -> None:
    assert json.loads(with_postgresql.python(IMPORT_ALL)) == {}


@pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")
def test_with_the_extra_it_serves_a_bucket_and_postgresql(
    with_postgresql: Environment, s3: S3Server, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Config = {"storage": s3.storage(s3.new_bucket()), "database": {"url": cluster.create()}}
    check_push_and_pull(with_postgresql, tmp_path, config, monkeypatch)


def check_push_and_pull(
    environment: Environment, directory: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration is found right, an image is pushed, found by ``rebuild``, and pulled."""
    monkeypatch.setenv("STOWAGE_TEST_PROGRAM", str(environment.registry))
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.delenv(name, raising=False)
    server = RegistryProcess(directory, config)
    with server, Client(server.port) as client:
        said = environment.command("config", "check", "--config", str(server.config_path))
        assert (said.returncode, said.stdout.splitlines()[0]) == (0, "The configuration is valid."), said.stderr
        for blob in (CONFIG, LAYER):
            assert client.call("POST", f"/v2/a/b/blobs/uploads/?digest={blob.digest}", blob.data).status == 201
        kind = {"Content-Type": IMAGE.media_type}
        assert client.call("PUT", "/v2/a/b/manifests/one", IMAGE.data, kind).status == 201
        said = environment.command("rebuild", "--json", "--config", str(server.config_path))
        assert json.loads(said.stdout)["repositories"] == 1, said.stderr
        assert client.call("GET", "/v2/a/b/manifests/one").body == IMAGE.data
        assert client.call("GET", f"/v2/a/b/blobs/{LAYER.digest}").body == LAYER.data
