"""A plan as a file: whole or not at all, never over something else, and with what tells a change."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from registry.config.file import ConfigError
from registry.migration.review.plan_file import check_target
from registry.storage.memory import MemoryDriver
from tests.migration.conftest import Reviewing
from tests.support.source_world import FIRST, Tree, fill, path, per_repository, repositories


def read(file: Path) -> list[dict[str, Any]]:
    """The lines of a plan, whose end must say that they are all there."""
    *lines, end = file.read_bytes().splitlines(keepends=True)
    assert json.loads(end) == {"end": len(lines), "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
    return [json.loads(line) for line in lines]


def test_a_plan_has_a_header_repositories_shards_problems_and_an_end(reviewing: Reviewing, tmp_path: Path) -> None:
    tree = per_repository(repositories())
    del tree[f"app/blobs/{path(FIRST.digest)}"]
    plan = reviewing(tree)
    plan.write(tmp_path / "plan")
    header, *lines = read(tmp_path / "plan")
    assert header["layout"] == "per-repository"
    assert header["counts"]["repositories"] == 3
    assert header["estimate"]["rollback"]["adopted"]["requests"]["copy"] == 0
    assert [line["repository"] for line in lines if "fingerprint" in line and "repository" in line] == [
        "app", "team/web", "team/web/nested",
    ]  # fmt: skip
    assert [line["shard"] for line in lines if "shard" in line] == [line.shard for line in plan.shards]
    (problem,) = [line for line in lines if "problem" in line]
    assert (problem["problem"], problem["digest"]) == ("missing-blob", FIRST.digest)
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_the_document_is_json_and_has_all_but_the_fingerprints(reviewing: Reviewing) -> None:
    document = json.loads(json.dumps(reviewing(per_repository(repositories())).document()))
    assert document["problems"] == []
    assert document["counts"]["tags"] == 5
    assert "repositories" not in document


def test_a_plan_replaces_an_older_one_and_nothing_else(reviewing: Reviewing, tmp_path: Path) -> None:
    plan = reviewing(per_repository(repositories()))
    file = tmp_path / "plan"
    check_target(file)
    plan.write(file)
    check_target(file)
    plan.write(file)
    file.write_bytes(file.read_bytes()[:200])  # cut short: it was a plan all the same
    check_target(file)
    for name, content in (("other", b'{"my": "notes"}'), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match="is no plan of this command"):
            check_target(tmp_path / name)
    with pytest.raises(ConfigError, match="make that directory"):
        check_target(tmp_path / "nowhere" / "plan")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        check_target(tmp_path)


def test_a_plan_that_cannot_be_written_leaves_the_older_one(
    reviewing: Reviewing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = reviewing(per_repository(repositories()))
    plan.write(tmp_path / "plan")
    before = (tmp_path / "plan").read_bytes()

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        plan.write(tmp_path / "plan")
    assert (tmp_path / "plan").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def _lines(reviewing: Reviewing, tree: Tree, driver: MemoryDriver) -> dict[str, tuple[str, str]]:
    plan = reviewing({}, driver=driver) if not tree else reviewing(tree, driver=driver)
    found = {line.repository: (line.fingerprint, line.index) for line in plan.repositories}
    return found | {line.shard: (line.fingerprint, "") for line in plan.shards}


def test_fingerprints_change_with_their_repository_and_shard_alone(reviewing: Reviewing) -> None:
    tree, driver = per_repository(repositories()), MemoryDriver()
    before = _lines(reviewing, tree, driver)
    assert _lines(reviewing, {}, driver) == before
    driver.write("app/.uploads/1", b"half")  # uploads and records are no change
    driver.write("app/.journal/0000000000000001.json", b"{}")
    assert _lines(reviewing, {}, driver) == before
    key = f"app/blobs/{path(FIRST.digest)}"
    driver.write(key, FIRST.data)  # the same bytes in another version of the object
    after = _lines(reviewing, {}, driver)
    shard = f"sha256-{FIRST.digest[7:9]}"
    assert {name for name in before if before[name] != after[name]} == {"app", shard}
    fill(driver, {"team/web/index.json": tree["team/web/index.json"]})
    last = _lines(reviewing, {}, driver)
    assert {name for name in after if after[name] != last[name]} == {"team/web"}
    assert after["team/web"][0] == last["team/web"][0]
