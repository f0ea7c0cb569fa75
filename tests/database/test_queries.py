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
    publications,
    repositories,
    tags,
    upload_sessions,
    withheld,
)
from registry.database.blob_locations import Claiming
from registry.database.engine import Database
from registry.database.statement import Statement
from registry.database.upload_sessions import SessionRow
from registry.oci.digest import Digest
from registry.oci.withheld import Withheld

NOW = 1_750_000_000.25
STORE = "local"
HOUR = 3600.0


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def key(number: int) -> str:
    return f"team/app/blobs/sha256/{number:064x}"


STATEMENTS = [
    pytest.param(statement, id=f"{module.name.removeprefix('registry.database.')}.{name}")
    for module in pkgutil.walk_packages(database_package.__path__, "registry.database.")
    for name, statement in sorted(vars(importlib.import_module(module.name)).items())
    if isinstance(statement, Statement)
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_can_be_planned(shared: Database, statement: Statement) -> None:
    texts = " ".join((statement._sql, *(statement._sqlite or ())))
    values: dict[str, object] = dict.fromkeys(re.findall(r"(?<!:):([a-z_]+)", texts))
    planned = Statement(f"EXPLAIN {statement._sql}", expanding=statement._expanding, sqlite=statement._sqlite)
    for count in (0, 1, 3):
        if statement._expanding in {"blobs", "fetches", "manifests", "repositories"}:
            values[statement._expanding] = list(range(count))
        elif statement._expanding is not None:
            values[statement._expanding] = [f"item {number}" for number in range(count)]
        with shared.transaction() as connection:
            assert list(connection.execute(planned, values))


def test_names_and_tags_come_in_byte_order_and_in_pages(database: Database) -> None:
    given = ["a-b", "a_b", "aB", "ab", "B", "_", "1", "a.b", "b", "latest", "Latest"]
    names = ["a/b", "a-b", "a_b", "a.b", "ab", "b", "a0", "a"]
    with database.transaction() as connection:
        for name in names:
            repositories.create(connection, name, etag="", now=NOW)
        row = repositories.create(connection, "a", etag="ignored", now=NOW + 1)
        blob = blobs.put(connection, digest(1), size=1, lease=0).get().id
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
        made = repositories.create(connection, "team/app", etag="s1", now=NOW)
        assert repositories.create(connection, "team/app", etag="s2", now=NOW + 9) == made
        assert repositories.get(connection, made.id).get() == made
        allotted = repositories.next_sequence(connection, made.id).get()
        assert allotted == made._replace(version=made.version + 1, sequence=1)
        repositories.raise_version(connection, made.id)
        repositories.set_folded(connection, made.id, folded=1, etag="s3")
        repositories.set_folded(connection, made.id, folded=0, etag="older")
        row = repositories.find(connection, "team/app").get()
        assert row == made._replace(version=made.version + 2, sequence=1, folded_sequence=1, etag="s3")
        repositories.set_etag(connection, made.id, "s4")
        repositories.set_reconciled(connection, made.id, sequence=7, folded=5, etag="s5", missing=2)
        row = repositories.find(connection, "team/app").get()
        assert row == made._replace(
            version=made.version + 3, sequence=7, folded_sequence=5, etag="s5", missing_manifests=2
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
        row = repositories.create(connection, "team/app", etag="", now=NOW)
        for number in range(count):
            blob = blobs.put(connection, digest(number), size=number, lease=0).get().id
            memberships.add(connection, row.id, blob, now=NOW)
            tags.put(connection, row.id, f"t{number}", blob, sequence=1, now=NOW)
        wanted = [digest(number) for number in range(count + 1)]
        assert list(memberships.find_all(connection, row.id, wanted).get()) == sorted(wanted[:count])
        found = tags.find_all(connection, row.id, [f"t{number}" for number in range(count)]).get()
        assert len(found) == count


def claiming(token: str, *, seconds: float = 60, unclear: float = 0, key: str = key(1)) -> Claiming:
    """What a deleter asks for."""
    return Claiming(STORE, key, token, seconds, unclear, 0.0)


def still(row: blobs.BlobRow | None) -> blobs.BlobRow | None:
    """A row, but for the time that passes between two looks at it."""
    return row and row._replace(lease_left=round(row.lease_left / 60))


def test_a_blob_and_its_lease_and_state(database: Database) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="", now=NOW)
        blob = blobs.put(connection, digest(1), size=10, lease=HOUR).get()
        assert blob.generation == 0
        assert blobs.put(connection, digest(1), size=11, lease=0).get() == blob
        found = still(blobs.find(connection, digest(1)).get())
        assert found == blobs.BlobRow(blob.id, digest(1), 11, "present", 0, 60)
        assert blobs.adopt(connection, digest(1), size=99).size == 11
        assert blobs.adopt(connection, digest(2), size=5).lease_left <= 0
        blobs.lease(connection, blob.id, seconds=60)
        assert still(blobs.find(connection, digest(1)).get()) == found
        assert memberships.find(connection, row.id, digest(1)).get() is None
        memberships.add(connection, row.id, blob.id, now=NOW)
        memberships.add(connection, row.id, blob.id, now=NOW + 1)
        assert still(memberships.find(connection, row.id, digest(1)).get()) == found
        assert memberships.repositories_with(connection, blob.id).get() == ["team/app"]
        blobs.set_state(connection, blob.id, blobs.CLAIMED)
        blobs.lease(connection, blob.id, seconds=2 * HOUR)
        assert still(blobs.find(connection, digest(1)).get()) == found._replace(state="claimed")
        assert memberships.remove(connection, row.id, blob.id)
        assert not memberships.remove(connection, row.id, blob.id)


def test_a_location_is_claimed_once_until_the_deadline(database: Database) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="", now=NOW)
        blob = blobs.put(connection, digest(1), size=1, lease=0).get().id
        blob_locations.adopt(connection, blob, store=STORE, key=key(1), size=1, etag="i")
        blob_locations.adopt(connection, blob, store=STORE, key=key(1), size=2, etag="j")
        place = blob_locations.find(connection, STORE, key(1)).get()
        assert place is not None
        assert place[1:] == (blob, key(1), 1, "i", "current", None, None, None, None, 0)
        blob_locations.set_verified(connection, place.id, was="i", etag="i", now=NOW)
        memberships.add(connection, row.id, blob, now=NOW)
        held, noted = blob_locations.held_at(connection, row.id, digest(1), store=STORE, key=key(1)).get()
        assert still(held) == still(blobs.find(connection, digest(1)).get())
        assert noted == place._replace(verified_at=NOW)
        assert blob_locations.claim_unheld(connection, row.id, blob, claiming("t0")) is None
        assert blob_locations.claim(connection, blob, claiming("t1", seconds=60)) == "i"
        assert blob_locations.claim(connection, blob, claiming("t2")) is None
        assert blob_locations.current_of_blob(connection, blob, STORE).get() == []
        assert blob_locations.expired_claims(connection, STORE).get() == []
        assert blob_locations.claim_expired(connection, blob, claiming("t3")) is None
        blob_locations.end_claim(connection, store=STORE, key=key(1), token="t1", unclear=None)
        [expired] = blob_locations.expired_claims(connection, STORE).get()
        assert (expired.claim_token, expired.claim_sent) == ("t1", 0)
        assert blob_locations.expired_claims(connection, STORE, after=key(1)).get() == []
        assert blob_locations.claim_expired(connection, blob, claiming("t3")) == "i"
        assert blob_locations.claim_expired(connection, blob, claiming("t4")) is None
        assert still(blobs.find(connection, digest(1)).get())[4] == 2  # type: ignore[index] # it is there
        assert not blob_locations.remove(connection, blob, store=STORE, key=key(1), token="t1")
        assert blob_locations.keys_between(connection, STORE, key(1), key(2)).get() == [key(1)]
        assert blob_locations.keys_between(connection, STORE, key(2), key(3)).get() == []
        assert blob_locations.remove(connection, blob, store=STORE, key=key(1), token="t3")
        assert blob_locations.keys_between(connection, STORE, key(1), key(2)).get() == []
        member = blobs.find(connection, digest(1)).get()
        assert member is not None
        assert member.state == "present", "a repository has it, though without its bytes"


def test_a_publication_ends_a_claim_and_a_found_loss_forgets_the_place(database: Database) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="", now=NOW)
        blob = blobs.put(connection, digest(1), size=1, lease=0).get().id
        for verified_at in (None, NOW):
            blob_locations.put(connection, blob, store=STORE, key=key(1), size=1, etag="i", verified_at=verified_at)
        assert blob_locations.claim_unheld(connection, row.id, blob, claiming("t1")) == "i"
        blob_locations.put(connection, blob, store=STORE, key=key(1), size=1, etag="k", verified_at=NOW)
        assert not blob_locations.remove(connection, blob, store=STORE, key=key(1), token="t1")
        [place] = blob_locations.current_of_blob(connection, blob, STORE).get()
        assert place[3:] == (1, "k", "current", NOW, None, None, None, 0)
        blob_locations.set_etag(connection, store=STORE, key=key(1), etag="l")
        assert blob_locations.current_of_blob(connection, blob, STORE).get() == [place._replace(etag="l")]
        blob_locations.forget(connection, store=STORE, key=key(1))
        assert blob_locations.find(connection, STORE, key(1)).get() is None


def test_changes_wait_until_they_are_recorded_and_folded(database: Database) -> None:
    record = b'{"text":"\xc3\xa4 % \x00"}\n'
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="", now=NOW)
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
        begun = SessionRow("u1", "team/app", 0, "sha256", digest(0), "", None, NOW)
        assert upload_sessions.add(connection, begun, now=NOW).get()
        assert not upload_sessions.add(connection, begun._replace(offset=7), now=NOW).get()
        assert upload_sessions.find(connection, "u1").get() == begun
        assert upload_sessions.find(connection, "u2").get() is None
        assert upload_sessions.advance(connection, "u1", before=0, offset=1 << 40, **moved).get()
        assert not upload_sessions.advance(connection, "u1", before=0, offset=1, **moved).get()
        after = SessionRow("u1", "team/app", 1 << 40, "sha256", None, "%s :x", b"\0tail", NOW)
        assert upload_sessions.find(connection, "u1").get() == after
        assert upload_sessions.expired(connection, before=NOW + 1).get() == []
        assert [row.id for row in upload_sessions.expired(connection, before=NOW + 2).get()] == ["u1"]
        upload_sessions.remove(connection, "u1")
        assert upload_sessions.find(connection, "u1").get() is None
        upload_sessions.remove(connection, "u1")


def test_a_repository_has_a_live_upload_until_that_is_idle_for_long(database: Database) -> None:
    with database.transaction() as connection:
        session = SessionRow("u1", "team/app", 0, "sha256", digest(0), "", None, NOW - 60)
        upload_sessions.add(connection, session, now=NOW)
        assert upload_sessions.any_live(connection, "team/app", since=NOW).get()
        assert not upload_sessions.any_live(connection, "team/app", since=NOW + 1).get()
        assert not upload_sessions.any_live(connection, "team/other", since=NOW - 60).get()
        upload_sessions.touch(connection, "u1", offset=0, now=NOW + 60)
        assert upload_sessions.any_live(connection, "team/app", since=NOW + 60).get()
        assert upload_sessions.find(connection, "u1").get() == session
        upload_sessions.remove(connection, "u1")
        assert not upload_sessions.any_live(connection, "team/app", since=NOW - 60).get()


def test_a_repository_is_protected_for_a_while_after_a_long_upload(database: Database) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="", now=NOW)
        assert not upload_sessions.any_live(connection, "team/app", since=NOW - 60).get()
        repositories.set_uploaded(connection, row.id, now=NOW)
        repositories.set_uploaded(connection, row.id, now=NOW - 60)
        assert upload_sessions.any_live(connection, "team/app", since=NOW).get()
        assert not upload_sessions.any_live(connection, "team/app", since=NOW + 1).get()


def test_what_closes_a_session_is_read_as_of_one_moment(database: Database) -> None:
    session = SessionRow("u1", "team/app", 5, "sha256", digest(1), "note", b"tail", NOW)
    with database.transaction() as connection:
        upload_sessions.add(connection, session, now=NOW)
        row = repositories.create(connection, "team/app", etag="", now=NOW)
        blobs.put(connection, digest(1), size=3, lease=0).get()
    with database.autocommit() as connection:
        known = publications.closing(connection, "u1", "team/app", digest(1)).get()
        assert known == (session, row, True)
        assert publications.closing(connection, "u2", "team/other", digest(2)).get() == (None, None, False)
        assert publications.closing(connection, "u2", "team/app", digest(1)).get() == (None, row, True)
        assert publications.closing(connection, "u1", "team/other", digest(2)).get() == (session, None, False)


def test_what_joins_a_repository_is_read_together(database: Database) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="", now=NOW)
        blob_id = blobs.put(connection, digest(1), size=3, lease=0).get().id
        blob_locations.put(connection, blob_id, store="s", key=key(1), size=3, etag="a", verified_at=NOW)
        missing = Withheld(frozenset({Digest(digest(2))}), frozenset({Digest(digest(1))}))
        withheld.add(connection, row.id, missing)
    with database.autocommit() as connection:
        blob, location = blob_locations.blob_at(connection, digest(1), store="s", key=key(1)).get()
        found = publications.joining(connection, row.id, digest(1), store="s", key=key(1))
        assert found._replace(blob=still(found.blob)) == (True, still(blob), location, None)
        elsewhere = publications.joining(connection, row.id, digest(1), store="s", key=key(2))
        assert elsewhere._replace(blob=still(elsewhere.blob)) == (True, still(blob), None, None)
        naming = withheld.WithheldRow(digest(2), withheld.BLOB, None)
        found = publications.joining(connection, row.id, digest(2), store="s", key=key(1))
        assert found == (True, None, None, naming)
        new = publications.joining(connection, row.id, digest(3), store="s", key=key(1))
        assert new == (True, None, None, None)
        gone = publications.joining(connection, row.id + 1, digest(2), store="s", key=key(1))
        assert gone == (False, None, None, None)
        known = publications.joining(connection, row.id + 1, digest(1), store="s", key=key(1))
        assert known._replace(blob=still(known.blob)) == (False, still(blob), location, None)


def test_sessions_are_counted_by_where_they_were_begun(database: Database) -> None:
    common = SessionRow("", "team/app", 0, "sha256", digest(0), "", None, NOW)
    with database.transaction() as connection:
        for number, address in enumerate(["192.0.2.1", "", "192.0.2.1", "192.0.2.2", "192.0.2.1"]):
            session = common._replace(id=f"{uuid.UUID(int=number, version=4)}")
            upload_sessions.add(connection, session, now=NOW - number, address=address)
        alone = f"{uuid.UUID(int=7, version=4)}".replace("-4000", "-7000")  # it is counted where it began: on storage
        upload_sessions.add(connection, common._replace(id=alone), now=NOW, address="192.0.2.2")
    with database.autocommit() as connection:
        assert upload_sessions.count_by_address(connection).get() == {"192.0.2.1": 3, "192.0.2.2": 1, "": 1}
        oldest = upload_sessions.oldest(connection, "192.0.2.1", count=2).get()
        assert [(since, upload[-1]) for since, upload in oldest] == [(NOW - 4, "4"), (NOW - 2, "2")]
        assert [upload[-1] for _, upload in upload_sessions.oldest(connection, "", count=2).get()] == ["1"]
        assert upload_sessions.oldest(connection, "192.0.2.3", count=2).get() == []


def test_a_lease_has_one_holder_until_its_deadline(database: Database) -> None:
    with database.transaction() as connection:
        assert leases.take(connection, "fold", "a", seconds=60)
        assert leases.take(connection, "fold", "a", seconds=120)
        assert not leases.take(connection, "fold", "b", seconds=60)
        connection.execute(Statement("UPDATE lease SET deadline = wall_now() - 1"), {})
        assert leases.take(connection, "fold", "b", seconds=60)
        leases.free(connection, "fold", "a")
        assert not leases.take(connection, "fold", "a", seconds=60)
        assert not leases.take_from(connection, "fold", "a", other="c", seconds=60)
        assert leases.take_from(connection, "fold", "a", other="b", seconds=60)
        leases.free(connection, "fold", "a")
        assert leases.take(connection, "fold", "b", seconds=60)
