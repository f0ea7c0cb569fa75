"""The table of drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.config.cache_sections import CacheSettings
from registry.config.sections import StorageSettings
from registry.config.settings import Settings
from registry.storage.factory import DRIVERS, open_driver
from registry.storage.memory import MemoryDriver
from tests.storage.middleware.tiered.tiers import Counts, blob


@pytest.mark.parametrize("dedupe", [True, False])
def test_the_local_driver_is_opened_as_configured(tmp_path: Path, dedupe: bool) -> None:
    storage = StorageSettings(driver="local", root_directory=tmp_path / "store", fsync=False, dedupe=dedupe)
    driver = open_driver(Settings(storage=storage))
    driver.write("a/x", b"data")
    driver.link("a/x", "b/x")
    assert driver.name == "local"
    assert (tmp_path / "store/a/x").samefile(tmp_path / "store/b/x") is dedupe


def test_every_name_that_the_configuration_accepts_has_a_driver() -> None:
    accepted = StorageSettings.model_fields["driver"].annotation
    assert set(DRIVERS) == set(accepted.__args__)  # type: ignore[union-attr]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> MemoryDriver:
    """What the factory opens as S3."""
    driver = MemoryDriver()
    monkeypatch.setitem(DRIVERS, "s3", lambda _settings, _observe: driver)
    return driver


def cached(tmp_path: Path, **keys: object) -> Settings:
    return Settings(storage=StorageSettings(driver="s3"), cache=CacheSettings.model_validate(keys))


def test_without_a_directory_there_is_no_tier(tmp_path: Path, bucket: MemoryDriver) -> None:
    driver = open_driver(cached(tmp_path), cache_counter=Counts())
    assert driver is bucket
    assert driver.serving is driver


def test_a_server_keeps_what_its_clients_read(tmp_path: Path, bucket: MemoryDriver) -> None:
    keys = {"blob_directory": tmp_path / "blobs", "metadata_directory": tmp_path / "metadata"}
    driver = open_driver(cached(tmp_path, **keys), cache_counter=Counts())
    each = blob(1000)
    bucket.write(each.key, each.data)
    with driver.serving.open(each.key) as reader:
        assert reader.read(2000) == each.data
    driver.serving.read(each.key, max_bytes=1000)
    for name in ("blobs", "metadata"):
        assert (tmp_path / name / each.digest[:2] / each.digest).exists()
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700
    driver.close()


def test_a_command_makes_no_file_and_forgets_what_it_deletes(tmp_path: Path, bucket: MemoryDriver) -> None:
    keys = {"blob_directory": tmp_path / "blobs", "metadata_directory": tmp_path / "metadata"}
    command = open_driver(cached(tmp_path, **keys))
    each, other = blob(1000), blob(1000, 2)
    command.write(each.key, each.data)
    command.write(other.key, other.data)
    with command.serving.open(each.key) as reader:
        assert reader.read(2000) == each.data
    command.delete([other.key])
    assert list(tmp_path.iterdir()) == []
    server = open_driver(cached(tmp_path, **keys), cache_counter=Counts())
    with server.serving.open(each.key) as reader:
        assert reader.read(2000) == each.data
    command.delete([each.key])
    assert not (tmp_path / "blobs" / each.digest[:2] / each.digest).exists()


def test_a_local_disk_has_no_tier_whatever_is_configured(tmp_path: Path) -> None:
    storage = StorageSettings(driver="local", root_directory=tmp_path / "store")
    cache = CacheSettings(blob_directory=tmp_path / "blobs")
    driver = open_driver(Settings(storage=storage, cache=cache), cache_counter=Counts())
    assert driver.serving is driver
    assert not (tmp_path / "blobs").exists()
