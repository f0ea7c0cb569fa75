"""Nothing looks through all rows for a few: done for each repository, shard or second, that is too dear."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from registry.clocks import Clocks
from registry.database import manifests, migration_queries, references, repositories, tags
from registry.database.clock import add_functions
from registry.database.collection import doomed, orphans, purging, scrub, survey, trash
from registry.database.mirrors import mirror_tags, remote_misses
from registry.database.quotas import groups
from registry.database.statement import Statement
from tests.support.sqlite import create_current


def explain(statement: Statement, directory: Path) -> list[str]:
    """The steps of SQLite's plan."""
    create_current(directory / "cache.db")
    values = dict.fromkeys(re.findall(r":([a-z_]+)", statement._text))
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        connection.create_function("name_matches", 2, lambda *_: True, deterministic=True)
        add_functions(connection, Clocks())
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement._text}", values)]


@pytest.mark.parametrize("statement", [migration_queries._LOST, migration_queries._PLACED], ids=["lost", "placed"])
def test_locations_are_found_by_their_blob(statement: Statement, tmp_path: Path) -> None:
    plan = explain(statement, tmp_path)
    assert any("ix_blob_location_blob_id" in step for step in plan), plan
    assert not any("(store=?)" in step for step in plan), plan


@pytest.mark.parametrize(
    "statement", [references._INCOMPLETE_PAGE, references._INCOMPLETE_OF], ids=["any", "of-a-repository"]
)
def test_manifests_that_are_not_complete_are_found_by_an_index_of_these_alone(
    statement: Statement, tmp_path: Path
) -> None:
    plan = explain(statement, tmp_path)
    assert any("SEARCH m USING INDEX ix_manifest_incomplete" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


def test_a_quota_is_counted_from_the_repositories_in_the_range_of_its_names(tmp_path: Path) -> None:
    plan = explain(groups._COUNT, tmp_path)
    assert any("SEARCH r" in step and "(name>? AND name<?)" in step for step in plan), plan
    assert any("SEARCH m USING PRIMARY KEY (repository_id=?)" in step for step in plan), plan


def test_whether_a_group_has_a_blob_is_seen_from_the_repositories_that_have_it(tmp_path: Path) -> None:
    plan = explain(groups._IS_HELD, tmp_path)
    assert any("ix_membership_blob_id" in step for step in plan), plan
    assert not any("SCAN" in step for step in plan), plan


@pytest.mark.parametrize(
    ("statement", "begins"),
    [
        (tags._JUDGED, "SEARCH t USING PRIMARY KEY (repository_id=? AND name>?)"),
        (tags._BY_MANIFEST, "SEARCH t USING INDEX ix_tag_repository_id_blob_id (repository_id=? AND blob_id>?)"),
        (references._NAMED_BYTES, "SEARCH r USING PRIMARY KEY (repository_id=? AND manifest_id=?)"),
        (references._CHILDREN, "SEARCH r USING PRIMARY KEY (repository_id=? AND manifest_id=?)"),
    ],
    ids=["tags", "by-manifest", "bytes", "children"],
)
def test_what_retention_asks_of_a_repository_is_found_by_its_place(
    statement: Statement, begins: str, tmp_path: Path
) -> None:
    plan = explain(Statement(statement._text.replace("IN :manifests", "= :manifest")), tmp_path)
    assert plan[0].startswith(begins[:-1]), plan
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan), plan


def test_the_manifest_that_was_pulled_is_found_by_its_digest(tmp_path: Path) -> None:
    plan = explain(manifests._SET_PULLED, tmp_path)
    assert not any("SCAN" in step for step in plan), plan


def test_what_was_scrubbed_longest_ago_is_found_by_an_index(tmp_path: Path) -> None:
    plan = explain(scrub._OLDEST, tmp_path)
    assert any("ix_blob_location_scrubbed" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


@pytest.mark.parametrize(
    "statement",
    [scrub._NEVER, scrub._LOST, scrub._COUNT_DUE, scrub._WITHOUT_LOCATION, scrub._MEMBERS, scrub._KEYS],
    ids=["never", "lost", "due", "without", "members", "keys"],
)
def test_a_scrub_looks_at_the_rows_of_a_range_and_sorts_none(statement: Statement, tmp_path: Path) -> None:
    plan = explain(statement, tmp_path)
    first = next(step for step in plan if step.startswith(("SEARCH", "SCAN")))
    assert any(each in first for each in ("rowid>?", "key>?", "(repository_id,blob_id)>")), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


def test_the_locations_of_a_blob_are_found_by_it(tmp_path: Path) -> None:
    plan = explain(scrub._OF_BLOB, tmp_path)
    assert any("ix_blob_location_blob_id" in step for step in plan), plan


def test_a_survey_asks_of_each_repository_what_an_index_says(tmp_path: Path) -> None:
    plan = explain(survey._PAGE, tmp_path)
    assert any("SEARCH r" in step and "(name>?)" in step for step in plan), plan
    assert any("SEARCH m USING" in step and "ix_manifest_incomplete" in step for step in plan), plan
    assert any("SEARCH c USING PRIMARY KEY (repository_id=?)" in step for step in plan), plan
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan), plan


def test_whether_rows_know_an_object_is_seen_by_its_key_and_by_its_digest(tmp_path: Path) -> None:
    for statement, index in ((orphans._KEYS, "(store=? AND key=?)"), (orphans._DIGESTS, "ix_trash_reference_digest")):
        one = Statement(statement._sql.replace("IN :keys", "= :key").replace("IN :digests", "= :digest"))
        plan = explain(one, tmp_path)
        assert any(index in step for step in plan), plan
        assert not any("SCAN" in step for step in plan), plan


def test_what_manifests_name_without_a_row_is_read_a_repository_at_a_time(tmp_path: Path) -> None:
    plan = explain(orphans._ROWLESS, tmp_path)
    assert any("SEARCH r" in step and "repository_id=? AND digest>?" in step for step in plan), plan
    assert any("SEARCH b" in step and "(digest=?)" in step for step in plan), plan
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan), plan


@pytest.mark.parametrize("statement", [trash._MAKE_NAMED, trash._MAKE_OWN], ids=["named", "own"])
def test_members_that_a_deleted_manifest_named_are_found_by_their_ids(statement: Statement, tmp_path: Path) -> None:
    plan = explain(statement, tmp_path)
    assert any("SEARCH membership USING PRIMARY KEY (repository_id=? AND blob_id=?)" in step for step in plan), plan
    assert not any("SCAN" in step for step in plan), plan


@pytest.mark.parametrize("statement", [doomed._MEMBERS, doomed._BLOBS], ids=["members", "blobs"])
def test_a_page_of_what_is_out_of_use_is_cut_before_anything_is_joined_to_it(
    statement: Statement, tmp_path: Path
) -> None:
    plan = explain(statement, tmp_path)
    assert any("SEARCH p USING" in step for step in plan), plan
    assert not any(step.startswith("SEARCH n USING INTEGER PRIMARY KEY (rowid>?)") for step in plan), plan
    assert not any("SEARCH b USING INTEGER PRIMARY KEY (rowid>?)" in step for step in plan), plan
    assert not any(step.startswith("SCAN") and step != "SCAN d" for step in plan), plan


def test_a_list_of_repositories_passes_over_no_hidden_one(tmp_path: Path) -> None:
    plan = explain(repositories._LISTED, tmp_path)
    assert [step for step in plan if "repository" in step or " r " in step] == [
        "SEARCH repository USING INDEX ix_repository_listed (name>?)",
        *["SEARCH r USING INTEGER PRIMARY KEY (rowid=?)"] * 2,
    ], plan


def test_what_in_the_trash_needs_a_blob_is_found_by_the_blob(tmp_path: Path) -> None:
    """A purge asks it of each blob: a thousand referrers took a minute where it read the whole trash each time."""
    plan = explain(purging._TRASH_NAMING, tmp_path)
    assert not any("SCAN" in step or step.endswith("(repository_id=?)") for step in plan), plan


def test_the_trash_of_a_repository_is_read_in_its_order(tmp_path: Path) -> None:
    for statement in (trash._PAGE, trash._BATCH):
        plan = explain(statement, tmp_path)
        assert any("ix_trash_manifest_repository_id_sequence" in step for step in plan), plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


def test_what_is_known_of_a_tag_upstream_is_found_by_its_key(tmp_path: Path) -> None:
    plan = explain(mirror_tags._FIND, tmp_path)
    assert not any("SCAN" in step for step in plan), plan


def test_a_page_of_what_is_known_of_tags_begins_behind_the_one_before(tmp_path: Path) -> None:
    plan = explain(mirror_tags._PAGE, tmp_path)
    assert any("SEARCH m USING PRIMARY KEY" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


def test_misses_that_are_over_are_found_by_their_end(tmp_path: Path) -> None:
    plan = explain(remote_misses._REMOVE_OVER, tmp_path)
    assert any("ix_remote_miss_until (until<?)" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan
