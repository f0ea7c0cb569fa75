"""Rows of what another registry brought, over SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from registry.database import blob_locations, blobs, memberships, migration_queries, repositories
from registry.database.blob_locations import Claiming
from registry.database.engine import Database
from registry.database.migration_queries import Copied, SourceObject

NOW = 1_750_000_000.25
STORE = "s3"
MIGRATION = "0001"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def line(number: int, key: str = "", *, etag: str = "s", verified: bool = False, size: int = 3) -> SourceObject:
    return SourceObject(digest(number), size, key or f"zot/{number}", etag, verified)


def put(database: Database, *lines: SourceObject, migration: str = MIGRATION, now: float = NOW) -> list[str]:
    with database.transaction() as connection:
        return migration_queries.put(connection, migration, lines, store=STORE, now=now)


def hold(database: Database, *numbers: int) -> int:
    """A repository with these blobs. Its id."""
    with database.transaction() as connection:
        row = repositories.create(connection, "app", etag="", now=NOW)
        for number in numbers:
            blob = blobs.find(connection, digest(number)).get()
            assert blob is not None
            memberships.add(connection, row.id, blob.id, now=NOW)
    return row.id


def rows(database: Database, number: int) -> list[tuple[Any, ...]]:
    """(key, etag, state, verified at, migration) of all locations of a blob."""
    with database.autocommit() as connection:
        found = migration_queries.placed(connection, store=STORE, low=digest(number), high=digest(number + 1)).get()
    return [(row.key, row.etag, row.state, row.verified_at, row.migration) for _, row in found]


def lose(database: Database, number: int) -> None:
    with database.transaction() as connection:
        for place in blob_locations.of_digest(connection, digest(number), store=STORE).get():
            assert blob_locations.set_lost(connection, place.id, etag=place.etag)


def test_putting_twice_is_the_same_as_once(database: Database) -> None:
    lines = [line(2), line(1, verified=True), line(1, "zot/b")]
    assert put(database, *lines) == []
    once = [rows(database, number) for number in (1, 2)]
    assert once == [
        [("zot/1", "s", "original", NOW, MIGRATION), ("zot/b", "s", "original", None, MIGRATION)],
        [("zot/2", "s", "original", None, MIGRATION)],
    ]
    assert put(database, *lines, now=NOW + 9) == []
    assert [rows(database, number) for number in (1, 2)] == once


def test_any_number_of_lines_is_put(database: Database) -> None:
    put(database, *(line(number) for number in range(1, 1201)))
    put(database, *(line(number, verified=number % 2 == 0) for number in range(1, 1201)), now=NOW + 1)
    assert rows(database, 1200) == [("zot/1200", "s", "original", NOW + 1, MIGRATION)]
    assert rows(database, 1199) == [("zot/1199", "s", "original", None, MIGRATION)]


def test_what_was_hashed_stays_so_at_its_etag_alone(database: Database) -> None:
    put(database, line(1, verified=True))
    put(database, line(1), now=NOW + 1)
    assert rows(database, 1) == [("zot/1", "s", "original", NOW, MIGRATION)]
    put(database, line(1, etag="t"))
    assert rows(database, 1) == [("zot/1", "t", "original", None, MIGRATION)]


def test_a_lost_location_stays_lost_until_it_is_another_or_was_hashed(database: Database) -> None:
    put(database, line(1), line(2))
    for number in (1, 2):
        lose(database, number)
    put(database, line(1), line(2, verified=True))
    assert rows(database, 1) == [("zot/1", "s", "lost", None, MIGRATION)]
    assert rows(database, 2) == [("zot/2", "s", "original", NOW, MIGRATION)]
    put(database, line(1, etag="t"))
    assert rows(database, 1) == [("zot/1", "t", "original", None, MIGRATION)]


@pytest.mark.parametrize("state", [blobs.MISSING, blobs.QUARANTINED])
def test_bytes_that_were_missing_are_present_again_with_a_new_place(database: Database, state: str) -> None:
    put(database, line(1))
    hold(database, 1)
    with database.transaction() as connection:
        blob = blobs.find(connection, digest(1)).get()
        assert blob is not None
        blobs.set_state(connection, blob.id, state)
        before = repositories.find(connection, "app").get()
    put(database, line(1, "zot/b"))
    with database.autocommit() as connection:
        after, healed = repositories.find(connection, "app").get(), blobs.find(connection, digest(1)).get()
    assert before is not None
    assert after is not None
    assert healed is not None
    assert (after.version > before.version, healed.state) == (True, blobs.PRESENT)


def test_a_blob_that_is_known_with_another_size_is_left_out(database: Database) -> None:
    put(database, line(1))
    assert put(database, line(1, "zot/b", size=4), line(2)) == [digest(1)]
    assert [row[0] for row in rows(database, 1)] == ["zot/1"]
    assert rows(database, 2)


def test_nothing_but_a_migration_ever_deletes_a_source_object(database: Database) -> None:
    put(database, line(1, verified=True))
    row = hold(database)
    with database.transaction() as connection:
        place = blob_locations.find(connection, STORE, "zot/1").get()
        assert place is not None
        claim = Claiming(STORE, "zot/1", "t", 60, 0, 0)
        for after in range(2):  # as it is, and once a rollback has made it current
            assert not blob_locations.claim(connection, place.blob_id, claim)
            assert not blob_locations.claim_unheld(connection, row, place.blob_id, claim)
            migration_queries.swap(connection, MIGRATION, store=STORE, after=0, count=10)
            assert after in {0, 1}


def test_what_has_no_verified_object_of_ours_is_uncopied(database: Database) -> None:
    put(database, *(line(number) for number in range(1, 6)))
    hold(database, 1, 2, 3, 4)
    copies = [Copied(digest(1), 3, "ours/1", "c"), Copied(digest(4), 3, "ours/4", "c")]
    with database.transaction() as connection:
        assert migration_queries.set_copied(connection, copies, store=STORE, now=NOW) == []
        blob = blobs.find(connection, digest(2)).get()
        assert blob is not None
        blob_locations.adopt(connection, blob.id, store=STORE, key="ours/2", size=3, etag="x")
    with database.autocommit() as connection:
        assert [row.digest for row in migration_queries.uncopied(connection, store=STORE, after="", count=9).get()] == [
            digest(2),
            digest(3),
        ]
        [row] = migration_queries.uncopied(connection, store=STORE, after=digest(2), count=9).get()
        assert row.digest == digest(3)
        assert len(migration_queries.uncopied(connection, store=STORE, after="", count=1).get()) == 1
        asked = [digest(number) for number in range(1, 2000)]
        assert migration_queries.copied(connection, asked, store=STORE).get() == {digest(1), digest(4)}


def test_a_copy_is_noted_unless_a_push_or_a_deletion_has_the_place(database: Database) -> None:
    put(database, line(1), line(2), line(3))
    row = hold(database)
    with database.transaction() as connection:
        ids = {number: blobs.find(connection, digest(number)).get() for number in (1, 2, 3)}
        for number, verified_at in ((1, NOW), (2, None), (3, NOW)):
            blob = ids[number]
            assert blob is not None
            blob_locations.put(
                connection, blob.id, store=STORE, key=f"ours/{number}", size=3, etag="p", verified_at=verified_at
            )
        third = ids[3]
        assert third is not None
        assert blob_locations.claim_unheld(connection, row, third.id, Claiming(STORE, "ours/3", "t", 60, 0, 0)) == "p"
        copies = [Copied(digest(number), 3, f"ours/{number}", "c") for number in (1, 2, 3)]
        assert migration_queries.set_copied(connection, copies, store=STORE, now=NOW + 1) == [digest(1), digest(3)]
    assert rows(database, 1)[0] == ("ours/1", "p", "current", NOW, None)
    assert rows(database, 2)[0] == ("ours/2", "c", "current", NOW + 1, None)
    assert rows(database, 3)[0][2] == "deleting"


def test_a_rollback_swaps_all_locations_range_by_range_and_a_later_migration_swaps_them_back(
    database: Database,
) -> None:
    put(database, *(line(number) for number in range(1, 6)))
    with database.transaction() as connection:
        copies = [Copied(digest(number), 3, f"ours/{number}", "c") for number in (1, 5)]
        migration_queries.set_copied(connection, copies, store=STORE, now=NOW)
        blob = blobs.put(connection, digest(9), size=3, lease=0).get().id
        blob_locations.put(connection, blob, store=STORE, key="ours/9", size=3, etag="p", verified_at=NOW)
    for _ in range(2):
        after: int | None = 0
        while after is not None:
            with database.transaction() as connection:
                after = migration_queries.swap(connection, MIGRATION, store=STORE, after=after, count=2)
        assert [[row[2] for row in rows(database, number)] for number in (1, 2, 5, 9)] == [
            ["copy", "current"],
            ["current"],
            ["copy", "current"],
            ["current"],
        ]
    put(database, line(1), line(5), migration="0002")
    assert [row[2:] for row in rows(database, 1)] == [("current", NOW, None), ("original", None, "0002")]


def test_a_location_is_verified_in_the_version_that_was_hashed(database: Database) -> None:
    put(database, line(1))
    with database.transaction() as connection:
        [place] = blob_locations.of_digest(connection, digest(1), store=STORE).get()
        blob_locations.set_verified(connection, place.id, was="another", etag="another", now=NOW)
        blob_locations.set_verified(connection, place.id, was="another", etag="t", now=NOW)
        assert blob_locations.of_digest(connection, digest(1), store=STORE).get() == [place]
        assert not blob_locations.set_lost(connection, place.id, etag="another")
        blob_locations.set_verified(connection, place.id, was="s", etag="s", now=NOW)
        assert rows_of(connection) == [("s", NOW)]
        blob_locations.set_verified(connection, place.id, was="s", etag="t", now=NOW + 1)
        assert rows_of(connection) == [("t", NOW + 1)]


def rows_of(connection: Any) -> list[tuple[str, float | None]]:
    found = blob_locations.of_digest(connection, digest(1), store=STORE).get()
    return [(row.etag, row.verified_at) for row in found]


def test_the_best_location_is_held_and_what_is_forgotten_or_lost_is_not(database: Database) -> None:
    put(database, line(1), line(1, "zot/b", verified=True))
    repository = hold(database, 1)
    with database.transaction() as connection:
        blob = blobs.find(connection, digest(1)).get()
        first, best = blob_locations.of_digest(connection, digest(1), store=STORE).get()[::-1]
        assert (best.key, best.etag, best.verified_at) == ("zot/b", "s", NOW)
        assert blob_locations.held(connection, repository, digest(1), store=STORE).get() == (blob, best)
        assert blob_locations.held(connection, repository, digest(1), store="gcs").get() == (blob, None)
        assert blob_locations.held(connection, repository, digest(2), store=STORE).get() == (None, None)
        assert set(blob_locations.known(connection, [digest(1), digest(2)], store=STORE).get()) == {digest(1)}
        migration_queries.forget(connection, ["zot/b", *(f"zot/x{number}" for number in range(1500))], store=STORE)
        assert (first.key, first.verified_at) == ("zot/1", None)
        assert blob_locations.held(connection, repository, digest(1), store=STORE).get() == (blob, first)
    lose(database, 1)
    with database.autocommit() as connection:
        assert blob_locations.held(connection, repository, digest(1), store=STORE).get() == (blob, None)
        assert blob_locations.known(connection, [digest(1)], store=STORE).get() == {}
