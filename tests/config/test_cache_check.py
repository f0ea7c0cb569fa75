"""Directories of a cache that cannot be, and the reason of each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from registry.config.cache_check import cache_without_effect, check_cache
from registry.config.cache_sections import CacheSettings
from registry.config.check import check_settings, without_effect
from registry.config.file import ConfigError
from registry.config.sections import DatabaseSettings, S3Settings, StorageSettings
from registry.config.settings import Settings, load_settings


def settings(tmp_path: Path, *, driver: str = "s3", **cache: Any) -> Settings:
    storage = {"driver": driver, "root_directory": tmp_path / "root", "s3": S3Settings(bucket="images")}
    return Settings(storage=StorageSettings.model_validate(storage), cache=CacheSettings.model_validate(cache))


def problems(tmp_path: Path, **given: Any) -> dict[str, str]:
    found = check_cache(settings(tmp_path, **given))
    assert {each.key for each in found} <= {each.key for each in check_settings(settings(tmp_path, **given))}
    return {each.key: each.message for each in found}


def test_no_directory_is_the_default_and_an_empty_one_is_none(write: Any) -> None:
    assert not CacheSettings().is_on
    found = load_settings(write({"cache": {"blob_directory": "", "metadata_directory": ""}}))
    assert found == Settings()


def test_a_size_may_be_text(write: Any) -> None:
    assert load_settings(write({"cache": {"max_bytes": "50GiB"}})).cache.max_bytes == 50 << 30
    for wrong in (0, "much", -1):
        with pytest.raises(ConfigError, match=r"cache\.max_bytes"):
            load_settings(write({"cache": {"max_bytes": wrong}}))


def test_a_new_or_an_empty_directory_or_that_of_a_cache_is_right(tmp_path: Path) -> None:
    assert problems(tmp_path, blob_directory=tmp_path / "new" / "deep") == {}
    made = tmp_path / "made"
    made.mkdir()
    assert problems(tmp_path, blob_directory=made, metadata_directory=tmp_path / "other") == {}
    for name in ("a0", "lost+found"):
        (made / name).mkdir()
    for name in (".bytes", ".tmp-x"):
        (made / name).touch()
    assert problems(tmp_path, blob_directory=made) == {}


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    assert "not of a cache" in problems(tmp_path, blob_directory=tmp_path)["cache.blob_directory"]


def test_before_a_local_disk_there_is_no_cache_and_it_says_why(tmp_path: Path) -> None:
    found = problems(tmp_path, driver="local", blob_directory=tmp_path / "cache")
    assert "storage.driver is local" in found["cache.blob_directory"]
    assert "files of this machine already" in found["cache.blob_directory"]
    inside = problems(tmp_path, driver="local", blob_directory=tmp_path / "root" / "cache")
    assert list(inside) == ["cache.blob_directory"]


@pytest.mark.parametrize("name", ["blob_directory", "metadata_directory"])
def test_a_directory_below_the_root_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "root")
    for inside in ("root", "root/cache", "root/../root/cache", "link/cache"):
        message = problems(tmp_path, **{name: tmp_path / inside})[f"cache.{name}"]
        assert "storage.root_directory" in message
    assert problems(tmp_path, **{name: tmp_path / "root-cache"}) == {}
    database = DatabaseSettings(url="postgresql+psycopg://db/registry")  # then the root is a prefix of keys alone
    storage = StorageSettings(driver="s3", root_directory=tmp_path / "root", s3=S3Settings(bucket="images"))
    cache = CacheSettings.model_validate({name: tmp_path / "root" / "cache"})
    assert check_cache(Settings(storage=storage, database=database, cache=cache)) == []


def test_directories_in_each_other_are_refused(tmp_path: Path) -> None:
    for one, other in (("a", "a"), ("a", "a/b"), ("a/b", "a")):
        found = problems(tmp_path, blob_directory=tmp_path / one, metadata_directory=tmp_path / other)
        assert list(found) == ["cache.blob_directory"]
    assert problems(tmp_path, blob_directory=tmp_path / "a", metadata_directory=tmp_path / "ab") == {}


def test_a_directory_that_cannot_be_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert "not a directory" in problems(tmp_path, blob_directory=tmp_path / "file" / "x")["cache.blob_directory"]
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written" in problems(tmp_path, blob_directory=tmp_path / "new")["cache.blob_directory"]


def test_write_behind_is_refused_and_not_ignored(tmp_path: Path) -> None:
    found = problems(tmp_path, blob_directory=tmp_path / "cache", write="behind", durable=True)
    assert "through" in found["cache.write"]
    assert "cache.write" in problems(tmp_path, write="behind")


def test_keys_that_do_nothing_are_named(tmp_path: Path) -> None:
    idle = settings(tmp_path, log_requests=True, durable=True, max_tasks=3)
    assert [each.key for each in cache_without_effect(idle)] == [
        "cache.log_requests",
        "cache.durable",
        "cache.max_tasks",
    ]
    assert {each.key for each in cache_without_effect(idle)} <= {each.key for each in without_effect(idle)}
    assert cache_without_effect(settings(tmp_path, blob_directory=tmp_path, log_requests=True)) == []


def test_the_section_is_shown_with_its_paths(tmp_path: Path) -> None:
    shown = settings(tmp_path, blob_directory=tmp_path / "cache").masked()
    assert shown["cache"]["blob_directory"] == str(tmp_path / "cache")
    json.dumps(shown)
