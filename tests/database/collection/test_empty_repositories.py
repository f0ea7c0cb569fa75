"""Rows of empty repositories: a first sighting, which ends with a use; hidden ones are in no list without a member."""

from __future__ import annotations

import pytest

from registry.database import blobs, memberships, repositories, upload_sessions
from registry.database.collection import empty_repositories
from registry.database.collection.empty_repositories import BEFORE_ALL
from registry.database.engine import Database
from registry.database.statement import Statement
from registry.database.upload_sessions import SessionRow

NOW = 1_800_000_000.0
DIGEST = f"sha256:{1:064x}"


def make(database: Database, name: str, *, etag: str = "", sequence: int = 0) -> int:
    with database.transaction() as connection:
        return repositories.create(connection, name, etag=etag, now=NOW, sequence=sequence).id


def hide(database: Database, repository: int) -> None:
    with database.transaction() as connection:
        empty_repositories.hide(connection, repository)


def sight(database: Database, *, count: int = 10) -> list[str]:
    """Note what is empty; the names of what had no row."""
    with database.transaction() as connection:
        found, after = empty_repositories.unsighted(connection, after=BEFORE_ALL, count=count)
        assert after is None
        empty_repositories.note(connection, [row.id for row in found])
    return sorted(row.name for row in found)


def join(database: Database, repository: int) -> int:
    with database.transaction() as connection:
        blob = blobs.put(connection, DIGEST, size=1, lease=0).get().id
        memberships.add(connection, repository, blob, now=NOW)
    return blob


def leave(database: Database, repository: int, blob: int) -> None:
    with database.transaction() as connection:
        memberships.remove(connection, repository, blob)


def rows(database: Database) -> list[tuple[str, bool, bool]]:
    """The name of each that is noted and not hidden, whether it is bare, and whether it is empty."""
    with database.autocommit() as connection:
        found = empty_repositories.page(connection, after=BEFORE_ALL, count=10).get()
    return sorted((row.name, row.is_bare, row.is_empty) for row in found)


def listed(database: Database) -> list[str]:
    with database.autocommit() as connection:
        return repositories.listed(connection, last="", count=10).get()


def test_what_has_a_member_or_is_unread_or_unfolded_is_not_sighted(database: Database) -> None:
    join(database, make(database, "held"))
    make(database, "unread", sequence=repositories.UNREAD)
    make(database, "unfolded", sequence=3)
    make(database, "bare")
    make(database, "written", etag="e")
    assert sight(database) == ["bare", "written"]
    assert rows(database) == [("bare", True, True), ("written", False, True)]
    assert sight(database) == [], "once"


def test_repositories_are_sighted_in_pages(database: Database) -> None:
    for number in range(5):
        make(database, f"r{number}")
    found: list[str] = []
    after: int | None = BEFORE_ALL
    while after is not None:
        with database.autocommit() as connection:
            page, after = empty_repositories.unsighted(connection, after=after, count=2)
        assert len(page) <= 2
        found += [row.name for row in page]
    assert sorted(found) == [f"r{number}" for number in range(5)]


def test_a_use_that_ends_begins_the_time_anew(database: Database) -> None:
    repository = make(database, "team/app")
    sight(database)
    blob = join(database, repository)
    assert rows(database) == [("team/app", True, False)]
    leave(database, repository, blob)
    assert rows(database) == []
    assert sight(database) == ["team/app"]


def test_a_hidden_repository_is_listed_while_it_has_a_member_and_after(database: Database) -> None:
    repository = make(database, "team/app")
    make(database, "team/other")
    sight(database)
    hide(database, repository)
    assert (listed(database), rows(database)) == (["team/other"], [("team/other", True, True)])
    blob = join(database, repository)
    assert listed(database) == ["team/app", "team/other"]
    leave(database, repository, blob)
    assert listed(database) == ["team/app", "team/other"], "it is to be found empty again"


def test_a_repository_that_is_removed_leaves_no_row(database: Database) -> None:
    repository = make(database, "team/app")
    sight(database)
    with database.transaction() as connection:
        repositories.remove(connection, repository)
    assert rows(database) == []
    assert make(database, "team/app") != repository
    assert sight(database) == ["team/app"]


def test_a_session_is_open_however_old_it_is(database: Database) -> None:
    with database.transaction() as connection:
        assert not upload_sessions.any_open(connection, "team/app").get()
        upload_sessions.add(connection, SessionRow("s", "team/app", 0, "sha256", None, "", None, NOW), now=NOW)
        assert upload_sessions.any_open(connection, "team/app").get()
        assert not upload_sessions.any_open(connection, "team").get()


def used_again(database: Database) -> list[int]:
    with database.autocommit() as connection:
        return empty_repositories.listed_again(connection, count=10).get()


def test_what_has_a_member_again_is_noted_until_its_hiding_ends(database: Database) -> None:
    repository = make(database, "team/app")
    sight(database)
    hide(database, repository)
    blob = join(database, repository)
    join(database, repository)
    assert used_again(database) == [repository]
    with database.transaction() as connection:
        empty_repositories.show(connection, repository)
    assert (listed(database), used_again(database), rows(database)) == (["team/app"], [], [])
    leave(database, repository, blob)
    assert sight(database) == ["team/app"]
    hide(database, repository)
    assert listed(database) == []


def test_a_note_that_is_left_shows_nothing_that_is_hidden_anew(database: Database) -> None:
    repository = make(database, "team/app")
    sight(database)
    hide(database, repository)
    leave(database, repository, join(database, repository))
    assert used_again(database) == [repository]
    sight(database)
    hide(database, repository)
    assert (listed(database), used_again(database)) == ([], [])


def test_the_end_of_a_hiding_leaves_a_sighting(database: Database) -> None:
    repository = make(database, "team/app")
    sight(database)
    hide(database, repository)
    leave(database, repository, join(database, repository))
    sight(database)
    with database.transaction() as connection:
        empty_repositories.show(connection, repository)
    assert rows(database) == [("team/app", True, True)]


@pytest.mark.parametrize("shared", ["postgresql"], indirect=True)
def test_a_list_passes_over_no_hidden_repository(shared: Database) -> None:
    """Ten thousand of them cost each page of the catalog 50 ms."""
    with shared.transaction() as connection:
        for number in range(1000):
            repositories.create(connection, f"ci/{number}", etag="", now=NOW)
    assert len(sight(shared, count=2000)) == 1000
    make(shared, "team/app")
    with shared.transaction() as connection:
        for row in empty_repositories.page(connection, after=BEFORE_ALL, count=2000).get():
            empty_repositories.hide(connection, row.id)
    explained = Statement(f"EXPLAIN (ANALYZE, TIMING OFF) {repositories._LISTED._sql}")
    with shared.transaction() as connection:
        plan = [row[0] for row in connection.execute(explained, {"last": "", "count": 100})]
    assert any("ix_repository_listed" in step for step in plan), plan
    assert not any("Rows Removed" in step or " rows=1000 " in step for step in plan), plan
    assert listed(shared) == ["team/app"]
