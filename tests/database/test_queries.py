"""Every query, over SQLite and PostgreSQL: the same answers, with absent values and with long lists."""

from __future__ import annotations

import importlib
import pkgutil
import re
import uuid
from typing import Any

import pytest

import registry.database as database_package
from registry.database import (
    blob_locations,
    blobs,
    changes,
    leases,
    memberships,
    repositories,
    tags,
    upload_sessions,
)
from registry.database.engine import Database
from registry.database.statement import Statement

NOW = 1_750_000_000.25
STORE = "local"
HOUR = 3600.0


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def key(number: int) -> str:
    return f"team/app/blobs/sha256/{number:064x}"


STATEMENTS = [
    pytest.param(statement, id=f"{module.name}.{name}")
    for module in pkgutil.iter_modules(database_package.__path__)
    for name, statement in sorted(vars(importlib.import_module(f"registry.database.{module.name}")).items())
    if isinstance(statement, Statement)
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_can_be_planned(shared: Database, statement: Statement) -> None:
    values: dict[str, object] = dict.fromkeys(re.findall(r"(?<!:):([a-z_]+)", statement._sql))
    planned = Statement(f"EXPLAIN {statement._sql}", expanding=statement._expanding)
    for count in (0, 1, 3):
        if statement._expanding is not None:
            values[statement._expanding] = [f"item {number}" for number in range(count)]
        with shared.transaction() as connection:
            assert list(connection.execute(planned, values))


def test_names_and_tags_come_in_byte_order_and_in_pages(database: Database) -> None:
    given = ["a-b", "a_b", "aB", "ab", "B", "_", "1", "a.b", "b", "latest", "Latest"]
    names = ["a/b", "a-b", "a_b", "a.b", "ab", "b", "a0", "a"]
    with database.transaction() as connection:
        for name in names:
            repositories.create(connection, name, signature="", now=NOW)
        row = repositories.create(connection, "a", signature="ignored", now=NOW + 1)
        blob = blobs.put(connection, digest(1), size=1, leased_until=0).get()
        for number, tag in enumerate(given):
            tags.put(connection, row.id, tag, blob, sequence=number, now=NOW)
    with database.snapshot() as connection:
        assert repositories.names(connection).get() == sorted(names, key=str.encode)
        assert repositories.page(connection, last="a-b", count=3).get() == ["a.b", "a/b", "a0"]
        assert tags.page(connection, row.id, last="", count=100).get() == sorted(given, key=str.encode)
        assert tags.page(connection, row.id, last="B", count=2).get() == ["Latest", "_"]
        assert [tag.name for tag in tags.of_manifest(connection, row.id, blob).get()] == sorted(given, key=str.encode)
        assert tags.of_repository(connection, row.id).get()["ab"] == tags.TagRow("ab", digest(1), 3)


def test_a_repository_from_its_making_to_its_end(database: Database) -> None:
    with database.transaction() as connection:
        made = repositories.create(connection, "team/app", signature="s1", now=NOW)
        assert repositories.create(connection, "team/app", signature="s2", now=NOW + 9) == made
        assert repositories.get(connection, made.id).get() == made
        allotted = repositories.next_sequence(connection, made.id).get()
        assert allotted == made._replace(version=made.version + 1, sequence=1)
        repositories.raise_version(connection, made.id)
        repositories.set_folded(connection, made.id, folded=1, signature="s3")
        repositories.set_folded(connection, made.id, folded=0, signature="older")
        row = repositories.find(connection, "team/app").get()
        assert row == made._replace(version=made.version + 2, sequence=1, folded_sequence=1, signature="s3")
        repositories.set_signature(connection, made.id, "s4")
        repositories.set_reconciled(connection, made.id, sequence=7, folded=5, signature="s5", missing=2)
        row = repositories.find(connection, "team/app").get()
        assert row == made._replace(
            version=made.version + 3, sequence=7, folded_sequence=5, signature="s5", missing_manifests=2
        )
        changes.add(connection, made.id, 7, b"{}\n", state=changes.PENDING, now=NOW)
        assert repositories.unfolded(connection, before=NOW).get() == []
        assert repositories.unfolded(connection, before=NOW + 1).get() == ["team/app"]
        repositories.remove(connection, made.id)
        assert repositories.find(connection, "team/app").get() is None
        assert repositories.get(connection, made.id).get() is None
        assert changes.of_repository(connection, made.id).get() == []


@pytest.mark.parametrize("count", [0, 1, 1200])
def test_members_and_tags_are_found_in_lists_of_any_length(database: Database, count: int) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", signature="", now=NOW)
        for number in range(count):
            blob = blobs.put(connection, digest(number), size=number, leased_until=0).get()
            memberships.add(connection, row.id, blob, now=NOW)
            tags.put(connection, row.id, f"t{number}", blob, sequence=1, now=NOW)
        wanted = [digest(number) for number in range(count + 1)]
        assert list(memberships.find_all(connection, row.id, wanted).get()) == sorted(wanted[:count])
        found = tags.find_all(connection, row.id, [f"t{number}" for number in range(count)]).get()
        assert len(found) == count


def test_a_blob_and_its_lease_and_state(database: Database) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", signature="", now=NOW)
        blob = blobs.put(connection, digest(1), size=10, leased_until=NOW + HOUR).get()
        assert blobs.put(connection, digest(1), size=11, leased_until=NOW).get() == blob
        assert blobs.find(connection, digest(1)).get() == blobs.BlobRow(
            blob, digest(1), 11, "present", 0, None, NOW + HOUR
        )
        assert blobs.adopt(connection, digest(1), size=99).size == 11
        assert blobs.adopt(connection, digest(2), size=5).leased_until == 0
        blobs.lease(connection, blob, until=NOW)
        assert blobs.find(connection, digest(1)).get()[6] == NOW + HOUR  # type: ignore[index] # it is there
        assert memberships.find(connection, row.id, digest(1)).get() is None
        memberships.add(connection, row.id, blob, now=NOW)
        memberships.add(connection, row.id, blob, now=NOW + 1)
        assert memberships.find(connection, row.id, digest(1)).get() == blobs.find(connection, digest(1)).get()
        assert memberships.repositories_with(connection, blob).get() == ["team/app"]
        blobs.set_state(connection, blob, blobs.CLAIMED)
        blobs.lease(connection, blob, until=NOW + 2 * HOUR)
        assert blobs.find(connection, digest(1)).get()[3:7] == ("claimed", 0, None, NOW + HOUR)  # type: ignore[index] # likewise
        assert memberships.remove(connection, row.id, blob)
        assert not memberships.remove(connection, row.id, blob)


def test_a_location_is_claimed_once_until_the_deadline(database: Database) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", signature="", now=NOW)
        blob = blobs.put(connection, digest(1), size=1, leased_until=0).get()
        blob_locations.adopt(connection, blob, store=STORE, key=key(1), size=1, signature="i")
        blob_locations.adopt(connection, blob, store=STORE, key=key(1), size=2, signature="j")
        place = blob_locations.find(connection, STORE, key(1)).get()
        assert place is not None
        assert place[1:] == (blob, key(1), 1, "i", "current", None, None, None, None)
        blob_locations.set_verified(connection, place.id, was="i", signature="i", now=NOW)
        memberships.add(connection, row.id, blob, now=NOW)
        held = blob_locations.held_at(connection, row.id, digest(1), store=STORE, key=key(1)).get()
        assert held == (blobs.find(connection, digest(1)).get(), place._replace(verified_at=NOW))
        orphan: dict[str, Any] = {"store": STORE, "key": key(1), "now": NOW}
        assert not blob_locations.claim_orphan(connection, row.id, blob, **orphan, token="t0", deadline=NOW + 60)
        assert blob_locations.claim(connection, blob, **orphan, token="t1", deadline=NOW + 60)
        assert not blob_locations.claim(connection, blob, **orphan, token="t2", deadline=NOW + 60)
        assert blob_locations.current_of_blob(connection, blob, STORE).get() == []
        assert blob_locations.expired_claims(connection, STORE, now=NOW + 60).get() == []
        [expired] = blob_locations.expired_claims(connection, STORE, now=NOW + 61).get()
        assert blob_locations.claim_expired(
            connection, expired, store=STORE, token="t3", now=NOW + 61, deadline=NOW + 120
        )
        assert not blob_locations.claim_expired(
            connection, expired, store=STORE, token="t4", now=NOW + 61, deadline=NOW + 120
        )
        assert blobs.find(connection, digest(1)).get()[4] == 2  # type: ignore[index] # it is there
        blob_locations.remove(connection, store=STORE, key=key(1), token="t1")
        assert blob_locations.keys_below(connection, STORE, "team/app/blobs/sha256").get() == [key(1)]
        blob_locations.remove(connection, store=STORE, key=key(1), token="t3")
        assert blob_locations.keys_below(connection, STORE, "team/app/blobs/sha256").get() == []


def test_a_publication_ends_a_claim_and_a_found_loss_forgets_the_place(database: Database) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", signature="", now=NOW)
        blob = blobs.put(connection, digest(1), size=1, leased_until=0).get()
        for verified_at in (None, NOW):
            blob_locations.put(
                connection, blob, store=STORE, key=key(1), size=1, signature="i", verified_at=verified_at
            )
        claim: dict[str, Any] = {"store": STORE, "key": key(1), "now": NOW, "deadline": NOW + 60}
        assert blob_locations.claim_orphan(connection, row.id, blob, token="t1", **claim)
        blob_locations.put(connection, blob, store=STORE, key=key(1), size=1, signature="k", verified_at=NOW)
        blob_locations.remove(connection, store=STORE, key=key(1), token="t1")
        [place] = blob_locations.current_of_blob(connection, blob, STORE).get()
        assert place[3:] == (1, "k", "current", NOW, None, None, None)
        blob_locations.set_signature(connection, store=STORE, key=key(1), signature="l")
        assert blob_locations.current_of_blob(connection, blob, STORE).get() == [place._replace(signature="l")]
        blob_locations.forget(connection, store=STORE, key=key(1))
        assert blob_locations.find(connection, STORE, key(1)).get() is None


def test_changes_wait_until_they_are_recorded_and_folded(database: Database) -> None:
    record = b'{"text":"\xc3\xa4 % \x00"}\n'
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", signature="", now=NOW)
        for number in (2, 1, 3):
            changes.add(connection, row.id, number, record, state=changes.PENDING, now=NOW)
        changes.add(connection, row.id, 1, b"another", state=changes.RECORDED, now=NOW)
        changes.mark_recorded(connection, [(row.id, 1), (row.id, 3)])
        changes.mark_recorded(connection, [])
        states = [change.state for change in changes.of_repository(connection, row.id).get()]
        assert states == [changes.RECORDED, changes.PENDING, changes.RECORDED]
        changes.remove_folded(connection, row.id, folded=2)
        [pending, recorded] = changes.of_repository(connection, row.id).get()
        assert pending == (2, changes.PENDING, NOW, record)
        assert recorded.sequence == 3
        changes.remove_all(connection, row.id)
        assert changes.of_repository(connection, row.id).get() == []


def test_an_upload_moves_on_only_from_where_it_is(database: Database) -> None:
    moved: dict[str, Any] = {"digest": None, "note": "%s :x", "tail": b"\0tail", "now": NOW + 1}
    with database.transaction() as connection:
        upload_sessions.add(connection, "u1", "team/app", algorithm="sha256", digest=digest(0), note="", now=NOW)
        assert upload_sessions.find(connection, "u1").get() == upload_sessions.SessionRow(
            "u1", "team/app", 0, "sha256", digest(0), "", None
        )
        assert upload_sessions.find(connection, "u2").get() is None
        assert upload_sessions.advance(connection, "u1", before=0, offset=1 << 40, **moved).get()
        assert not upload_sessions.advance(connection, "u1", before=0, offset=1, **moved).get()
        after = upload_sessions.SessionRow("u1", "team/app", 1 << 40, "sha256", None, "%s :x", b"\0tail")
        assert upload_sessions.find(connection, "u1").get() == after
        assert upload_sessions.expired(connection, before=NOW + 1).get() == []
        assert [row.id for row in upload_sessions.expired(connection, before=NOW + 2).get()] == ["u1"]
        upload_sessions.remove(connection, "u1")
        assert upload_sessions.find(connection, "u1").get() is None
        upload_sessions.remove(connection, "u1")


def test_sessions_are_counted_by_where_they_were_begun(database: Database) -> None:
    common = {"algorithm": "sha256", "digest": digest(0), "note": ""}
    with database.transaction() as connection:
        for number, address in enumerate(["192.0.2.1", "", "192.0.2.1", "192.0.2.2", "192.0.2.1"]):
            session = f"{uuid.UUID(int=number, version=4)}"
            upload_sessions.add(connection, session, "team/app", **common, now=NOW - number, address=address)
        alone = f"{uuid.UUID(int=7, version=4)}".replace("-4000", "-7000")  # it is counted where it began: on storage
        upload_sessions.add(connection, alone, "team/app", **common, now=NOW, address="192.0.2.2")
    with database.autocommit() as connection:
        assert upload_sessions.count_by_address(connection).get() == {"192.0.2.1": 3, "192.0.2.2": 1, "": 1}
        oldest = upload_sessions.oldest(connection, "192.0.2.1", count=2).get()
        assert [(since, upload[-1]) for since, upload in oldest] == [(NOW - 4, "4"), (NOW - 2, "2")]
        assert [upload[-1] for _, upload in upload_sessions.oldest(connection, "", count=2).get()] == ["1"]
        assert upload_sessions.oldest(connection, "192.0.2.3", count=2).get() == []


def test_a_lease_has_one_holder_until_its_deadline(database: Database) -> None:
    with database.transaction() as connection:
        assert leases.take(connection, "fold", "a", now=NOW, deadline=NOW + 10)
        assert leases.take(connection, "fold", "a", now=NOW, deadline=NOW + 20)
        assert not leases.take(connection, "fold", "b", now=NOW + 20, deadline=NOW + 30)
        assert leases.take(connection, "fold", "b", now=NOW + 21, deadline=NOW + 30)
        leases.free(connection, "fold", "a")
        assert not leases.take(connection, "fold", "a", now=NOW + 22, deadline=NOW + 30)
        leases.free(connection, "fold", "b")
        assert leases.take(connection, "fold", "a", now=NOW + 22, deadline=NOW + 30)
