"""``registry cache status``: what a person and a program read of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.cli.main import run
from registry.storage.middleware.tiered.budget import TEMPORARY
from tests.storage.middleware.tiered.tiers import World, blob


def configured(tmp_path: Path, **cache: Any) -> list[str]:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"storage": {"driver": "s3", "s3": {"bucket": "images"}}, "cache": cache}))
    return ["--config", str(path)]


def test_without_a_cache_it_says_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "status", *configured(tmp_path)]) == 0
    assert "cache.blob_directory" in capsys.readouterr().out
    assert run(["cache", "status", "--json", *configured(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"write": "through", "tiers": []}


def test_the_files_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path / "cache")
    for seed in range(3):
        world.put(blob(100_000, seed))
        world.read(blob(100_000, seed))
    filling = world.blobs.begin("x", 100)
    (tmp_path / "cache" / "blobs" / f"{TEMPORARY}dead").touch()
    given = configured(tmp_path, blob_directory=str(tmp_path / "cache" / "blobs"), max_bytes="64MiB")
    before = sorted((tmp_path / "cache").rglob("*"))
    assert run(["cache", "status", "--json", *given]) == 0
    (tier,) = json.loads(capsys.readouterr().out)["tiers"]
    assert (tier["tier"], tier["files"], tier["max_bytes"], tier["filling"]) == ("blob", 3, 64 << 20, 2)
    assert 300_000 < tier["bytes"] < 400_000
    assert tier["oldest"] > 1_000_000_000
    assert run(["cache", "status", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"blob: {tmp_path}/cache/blobs"
    assert lines[1].strip().startswith("3 files with ")
    assert sorted((tmp_path / "cache").rglob("*")) == before
    assert filling is not None
    filling.drop()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = configured(tmp_path, metadata_directory=str(tmp_path / "none"))
    assert run(["cache", "status", *given]) == 0
    assert "cannot be read" in capsys.readouterr().out
    assert run(["cache", "status", "--json", *given]) == 0
    (tier,) = json.loads(capsys.readouterr().out)["tiers"]
    assert tier["problem"]
    assert not (tmp_path / "none").exists()
