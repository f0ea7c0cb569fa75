"""Rows of fetches: one leader at a time, and one that was overtaken changes nothing (I15)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from registry.clocks import Clocks
from registry.database.engine import Database
from registry.database.mirrors import fetches
from registry.database.mirrors.fetches import FetchRow, Kept, Wanted
from registry.database.statement import Statement

KEY = f"sha256:{'a' * 64}"
FIRST, SECOND = "first", "second"
SECONDS = 15.0
KEPT = Kept(100, "u1", "note", b"tail", 500, '"e"', "application/octet-stream")
RACES = 25


@pytest.fixture
def other(url: str, database: Database) -> Iterator[Database]:
    """Of another process."""
    opened = Database(url)
    yield opened
    opened.close()


def claim(
    database: Database, holder: str = FIRST, key: str = KEY, *, repository: str = "hub/app", **more: Any
) -> FetchRow | None:
    wanted = Wanted(more.pop("mirror", "hub"), fetches.BLOB, key, repository)
    with database.transaction() as connection:
        return fetches.claim(connection, wanted, **{"holder": holder, "seconds": SECONDS, **more})


def led(database: Database, holder: str = FIRST, **more: Any) -> FetchRow:
    row = claim(database, holder, **more)
    assert row is not None
    return row


def find(database: Database, key: str = KEY) -> FetchRow:
    with database.autocommit() as connection:
        row = fetches.find(connection, "hub", key).get()
        assert row is not None
        assert row.id in {each.id for each in fetches.find_many(connection, [key, "sha256:none"])}
    return row


def advance(database: Database, row: FetchRow, kept: Kept = KEPT, **more: Any) -> bool:
    with database.transaction(durable=False) as connection:
        return fetches.advance(
            connection, row.id, kept, **{"epoch": row.epoch, "before": row.offset, "seconds": SECONDS, **more}
        )


def let_time_pass(database: Database, seconds: float) -> None:
    """Move all moments of the rows into the past."""
    with database.transaction() as connection:
        connection.execute(
            Statement(
                "UPDATE upstream_fetch SET deadline = deadline - :seconds, touched_at = touched_at - :seconds,"
                " retry_at = retry_at - :seconds"
            ),
            {"seconds": seconds},
        )


def test_the_first_leads_and_the_second_follows(database: Database, other: Database) -> None:
    row = led(database)
    assert (row.state, row.epoch, row.edition, row.offset, row.upload_id) == (fetches.ACTIVE, 1, 1, 0, None)
    assert claim(other, SECOND) is None
    assert claim(database) is None, "nor does the holder begin it twice"
    assert claim(other, SECOND, mirror="another") is not None, "another mirror may give what this one denies"
    found = find(other)
    assert (found.holder, found.is_free, found.retry_left) == (FIRST, 0, None)


def test_what_is_kept_is_seen_by_another_process(database: Database, other: Database) -> None:
    row = led(database)
    assert advance(database, row)
    found = find(other)
    assert (found.offset, found.upload_id, found.note, found.tail) == (100, "u1", "note", b"tail")
    assert (found.size, found.etag, found.media_type) == (500, '"e"', "application/octet-stream")
    assert not advance(database, row), "the offset is another by now"
    assert advance(database, find(other), KEPT._replace(offset=200, tail=b""))
    assert (find(other).offset, find(other).tail, find(other).edition) == (200, None, 1)
    assert advance(database, find(other), KEPT._replace(offset=0, upload_id="u2"), anew=True)
    assert (find(other).offset, find(other).upload_id, find(other).edition) == (0, "u2", 2)


def test_who_leads_after_the_deadline_goes_on_and_the_former_leader_is_fenced(
    database: Database, other: Database
) -> None:
    row = led(database)
    assert advance(database, row)
    row = find(database)
    let_time_pass(database, SECONDS - 1)
    assert claim(other, SECOND) is None
    let_time_pass(database, 2)
    assert find(other).is_free
    after = led(other, SECOND, repository="hub/other")
    assert (after.epoch, after.edition, after.offset, after.upload_id, after.note) == (2, 1, 100, "u1", "note")
    assert (after.size, after.etag, after.repository) == (500, '"e"', "hub/other")
    assert not advance(database, row, KEPT._replace(offset=200))
    with database.transaction() as connection:
        assert not fetches.release(connection, row.id, epoch=row.epoch)
        assert not fetches.fail(connection, row.id, epoch=row.epoch, error="wrong", pause=60)
        assert not fetches.finish(connection, row.id, epoch=row.epoch, size=500).get()
        assert not fetches.remove(connection, row.id, epoch=row.epoch)
        assert fetches.renew(connection, [row.id], holder=FIRST, seconds=SECONDS) == set()
    assert find(other) == after


def test_a_leader_that_renews_keeps_what_it_leads(database: Database, other: Database) -> None:
    rows = [led(database, key=f"sha256:{number}") for number in range(3)]
    for _ in range(3):
        let_time_pass(database, SECONDS - 5)
        with database.transaction(durable=False) as connection:
            held = fetches.renew(connection, [row.id for row in rows], holder=FIRST, seconds=SECONDS)
        assert held == {row.id for row in rows}
    assert claim(other, SECOND, key="sha256:0") is None


def test_a_dead_holder_is_succeeded_at_once(database: Database, other: Database) -> None:
    led(database)
    assert claim(other, SECOND, dead="somewhere else") is None
    assert led(other, SECOND, dead=FIRST).epoch == 2
    assert claim(database, "third", dead=FIRST) is None, "it has another holder by now"


def test_a_fetch_that_is_given_up_is_paused_and_goes_on_with_its_bytes(database: Database, other: Database) -> None:
    row = led(database)
    assert advance(database, row)
    with database.transaction() as connection:
        assert fetches.release(connection, row.id, epoch=row.epoch, error="unavailable", pause=30, fails=2)
    found = find(other)
    assert (found.holder, found.error, found.fails, found.is_free) == (None, "unavailable", 2, 0)
    assert found.retry_left == pytest.approx(30, abs=20)
    assert claim(other, SECOND) is None
    let_time_pass(database, 31)
    row = led(other, SECOND)
    assert (row.offset, row.edition, row.fails) == (100, 1, 2)
    assert advance(other, row, KEPT._replace(offset=200))
    assert (find(other).fails, find(other).error, find(other).retry_left) == (0, None, None)
    with other.transaction() as connection:
        assert fetches.release(connection, row.id, epoch=row.epoch)
    assert find(database).is_free, "it was only left"


def test_a_fetch_that_failed_begins_anew_after_a_pause(database: Database, other: Database) -> None:
    row = led(database)
    assert advance(database, row)
    with database.transaction() as connection:
        assert fetches.fail(connection, row.id, epoch=row.epoch, error="wrong", pause=60)
    found = find(other)
    assert (found.state, found.error, found.upload_id, found.offset) == (fetches.FAILED, "wrong", None, 0)
    assert claim(other, SECOND) is None
    let_time_pass(database, 61)
    row = led(other, SECOND)
    assert (row.state, row.edition, row.offset, row.size, row.etag) == (fetches.ACTIVE, 2, 0, None, None)


def test_the_end_is_seen_and_only_a_caller_that_misses_the_blob_begins_again(
    database: Database, other: Database
) -> None:
    row = led(database)
    assert advance(database, row)
    with database.transaction() as connection:
        assert fetches.finish(connection, row.id, epoch=row.epoch, size=500).get()
    found = find(other)
    assert (found.state, found.size, found.offset, found.upload_id) == (fetches.PUBLISHED, 500, 500, None)
    assert claim(other, SECOND) is None
    row = led(other, SECOND, again=True)
    assert (row.edition, row.epoch, row.offset, row.state) == (2, 2, 0, fetches.ACTIVE)


def test_the_end_is_undone_with_its_transaction(database: Database, other: Database) -> None:
    row = led(database)

    def finish_and_fail() -> None:
        with database.transaction() as connection:
            assert fetches.finish(connection, row.id, epoch=row.epoch, size=500).get()
            raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        finish_and_fail()
    assert find(other).state == fetches.ACTIVE


def test_what_no_process_has_touched_expires_unless_it_is_led_again(database: Database, other: Database) -> None:
    row = led(database)
    assert advance(database, row)
    let_time_pass(database, 3000)
    with database.autocommit() as connection:
        assert fetches.expired(connection, seconds=3600).get() == []
    let_time_pass(database, 700)
    with database.autocommit() as connection:
        (seen,) = fetches.expired(connection, seconds=3600).get()
    assert (seen.id, seen.upload_id) == (row.id, "u1")
    led(other, SECOND)
    with database.transaction() as connection:
        assert not fetches.remove(connection, seen.id, epoch=seen.epoch)
        assert fetches.expired(connection, seconds=3600).get() == []
        assert fetches.remove(connection, seen.id, epoch=find(other).epoch)
        assert fetches.find(connection, "hub", KEY).get() is None


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_after_a_start_of_the_machine_no_process_leads_and_bytes_may_be_lost(url: str, database: Database) -> None:
    row = led(database)
    assert advance(database, row)
    restarted = Database(url, clocks=Clocks(boot=lambda: 1.0, boot_id="the next start"))
    try:
        assert find(restarted).is_free
        with restarted.autocommit() as connection:
            assert [each.id for each in fetches.expired(connection, seconds=3600).get()] == [row.id]
        after = led(restarted, SECOND)
        assert (after.edition, after.offset, after.upload_id, after.note) == (2, 0, "u1", "note")
        assert claim(restarted, "third") is None
    finally:
        restarted.close()


def test_of_many_that_claim_at_once_one_leads(database: Database, other: Database) -> None:
    """First a row that is not there, then one whose leader is over."""
    with ThreadPoolExecutor(4) as pool:
        for number in range(RACES):
            key = f"sha256:{number}"
            for epoch in (1, 2):
                gate = threading.Barrier(4)

                def race(place: int, key: str = key, gate: threading.Barrier = gate) -> FetchRow | None:
                    gate.wait(60)
                    return claim((database, other)[place % 2], f"racer {place}", key)

                (row,) = [row for row in pool.map(race, range(4)) if row is not None]
                assert (row.epoch, row.edition) == (epoch, 1)
                assert find(database, key).holder == row.holder
                let_time_pass(database, SECONDS + 1)


def test_of_two_leaders_that_write_at_once_the_later_epoch_counts(database: Database, other: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(RACES):
            key = f"sha256:{number}"
            former = led(database, key=key)
            let_time_pass(database, SECONDS + 1)
            writes = pool.submit(advance, database, former)
            leads = pool.submit(led, other, SECOND, key=key)
            wrote, row = writes.result(), leads.exception() or leads.result()
            if isinstance(row, FetchRow):
                assert row.epoch == 2
                assert row.offset == (100 if wrote else 0)
                assert not advance(database, find(database, key)._replace(epoch=1))
            else:
                assert wrote, "what it wrote was in time to go on leading"
                assert find(database, key).epoch == 1
