"""What an upstream said of a tag: one process asks, a late answer changes nothing, and clocks may be wrong."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from registry.database import blobs, repositories, tags
from registry.database.engine import Database
from registry.database.mirrors import mirror_tags
from registry.database.mirrors.mirror_tags import BEGINNING, LONGEST, MirrorTagRow
from tests.database.mirrors.conftest import at_once, pass_time

OLD, NEW = (f"sha256:{letter * 64}" for letter in "ab")
TAG = "v1"


@pytest.fixture
def repository(database: Database) -> int:
    """A repository whose tag points at OLD."""
    with database.transaction() as connection:
        made = repositories.create(connection, "hub/app", etag="", now=1.0).id
    point(database, made, OLD)
    return made


def point(database: Database, repository: int, digest: str, *, name: str = TAG, now: float = 1.0) -> None:
    with database.transaction() as connection:
        blob = blobs.adopt(connection, digest, size=1)
        tags.put(connection, repository, name, blob.id, sequence=7, now=now)


def known(database: Database, repository: int) -> MirrorTagRow:
    with database.autocommit() as connection:
        found = mirror_tags.find(connection, repository, TAG).get()
    assert found is not None
    return found


def claim(database: Database, repository: int, *, checked_at: float = 0.0, seconds: float = 30.0) -> float | None:
    with database.transaction() as connection:
        return mirror_tags.claim(connection, repository, TAG, checked_at=checked_at, seconds=seconds)


def claimed(database: Database, repository: int, *, checked_at: float = 0.0) -> float:
    moment = claim(database, repository, checked_at=checked_at)
    assert moment is not None
    return moment


def confirm(database: Database, repository: int, digest: str, started: float, etag: str | None = '"x"') -> bool:
    with database.transaction() as connection:
        return mirror_tags.confirm(connection, repository, TAG, digest=digest, etag=etag, started=started).get()


def miss(database: Database, repository: int, started: float, seconds: float = 60.0) -> bool:
    with database.transaction() as connection:
        return mirror_tags.miss(connection, repository, TAG, started=started, seconds=seconds)


def fail(database: Database, repository: int, started: float, seconds: float = 60.0) -> bool:
    with database.transaction() as connection:
        return mirror_tags.fail(connection, repository, TAG, started=started, seconds=seconds)


def test_of_a_tag_that_is_not_here_nothing_is_known(database: Database, repository: int) -> None:
    with database.autocommit() as connection:
        assert mirror_tags.find(connection, repository, "absent").get() is None
        assert mirror_tags.find(connection, repository + 1, TAG).get() is None


def test_of_a_tag_that_was_never_asked_for_the_digest_here_is_known(database: Database, repository: int) -> None:
    row = known(database, repository)
    assert (row.digest, row.sequence, row.checked_at, row.age, row.etag) == (OLD, 7, 0.0, None, None)
    assert (row.fails, row.is_gone, row.may_ask) == (0, 0, True)
    assert row.age_here > 1e9


def test_an_answer_counts_from_the_start_of_its_request(database: Database, repository: int) -> None:
    started = claimed(database, repository)
    assert not known(database, repository).may_ask
    pass_time(database, 5)
    assert confirm(database, repository, OLD, started - 5)
    row = known(database, repository)
    assert row.age is not None
    assert 5 <= row.age < 60
    assert (row.etag, row.checked_at, row.may_ask) == ('"x"', started - 5, True)


def test_an_answer_about_another_digest_says_nothing_of_the_tag(database: Database, repository: int) -> None:
    assert confirm(database, repository, NEW, claimed(database, repository))
    row = known(database, repository)
    assert (row.digest, row.age, row.etag) == (OLD, None, None)
    point(database, repository, NEW)
    assert known(database, repository).age is not None


def test_one_of_many_processes_asks(database: Database, second: Database, repository: int) -> None:
    for _ in range(3):
        row = known(database, repository)
        ask = partial(claim, repository=repository, checked_at=row.checked_at)
        calls = [partial(ask, each) for each in (database, second) * 4]
        won = [moment for moment in at_once(*calls) if moment is not None]
        assert len(won) == 1
        assert confirm(second, repository, OLD, won[0])


def test_a_process_that_read_before_an_answer_does_not_ask_after_it(
    database: Database, second: Database, repository: int
) -> None:
    before = known(second, repository)
    assert confirm(database, repository, OLD, claimed(database, repository))
    assert known(second, repository).may_ask
    assert claim(second, repository, checked_at=before.checked_at) is None


def test_another_process_asks_when_the_one_that_asked_is_dead(
    database: Database, second: Database, repository: int
) -> None:
    claimed(database, repository)
    assert claim(second, repository) is None
    pass_time(database, 31)
    assert known(second, repository).may_ask
    claimed(second, repository)


def test_a_late_answer_of_an_earlier_request_changes_nothing(
    database: Database, second: Database, repository: int
) -> None:
    slow = claimed(database, repository)
    pass_time(database, 31)
    fast = claimed(second, repository)
    assert confirm(second, repository, NEW, fast)
    after = known(database, repository)
    assert not confirm(database, repository, OLD, slow - 31)
    assert not miss(database, repository, slow - 31)
    assert not fail(database, repository, slow - 31)
    assert not confirm(database, repository, OLD, fast), "the same answer once more"
    assert known(database, repository)._replace(age_here=0, wait=0) == after._replace(age_here=0, wait=0)


def test_of_two_answers_that_are_noted_at_once_the_newer_one_stays(
    database: Database, second: Database, repository: int
) -> None:
    """The earlier answer waits for the transaction of the later one, and then sees it."""
    started = claimed(database, repository)
    waits = threading.Event()

    def earlier() -> bool:
        assert waits.wait(60)
        return confirm(second, repository, OLD, started - 1)

    def later() -> bool:
        with database.transaction() as connection:
            noted = mirror_tags.confirm(connection, repository, TAG, digest=NEW, etag=None, started=started).get()
            waits.set()
        return noted

    assert at_once(earlier, later) == [False, True]
    point(database, repository, NEW)
    assert known(database, repository).age is not None


def test_what_the_upstream_has_no_more_is_told_from_what_failed(database: Database, repository: int) -> None:
    assert confirm(database, repository, OLD, claimed(database, repository))
    checked_at = known(database, repository).checked_at
    started = claimed(database, repository, checked_at=checked_at)
    assert miss(database, repository, started)
    row = known(database, repository)
    assert (row.is_gone, row.fails, row.checked_at, row.may_ask) == (1, 0, checked_at, False)
    assert row.age is not None, "it is as old as it was"
    pass_time(database, 61)
    started = claimed(database, repository, checked_at=known(database, repository).checked_at)
    assert fail(database, repository, started)
    assert (known(database, repository).is_gone, known(database, repository).fails) == (1, 1)
    pass_time(database, 61)
    assert confirm(database, repository, OLD, claimed(database, repository, checked_at=checked_at - 122))
    assert (known(database, repository).is_gone, known(database, repository).fails) == (0, 0)


def test_a_late_answer_does_not_bring_back_what_is_gone(database: Database, repository: int) -> None:
    started = claimed(database, repository)
    assert miss(database, repository, started)
    assert not confirm(database, repository, NEW, started - 1)
    assert known(database, repository).is_gone


def test_failures_are_counted_and_keep_all_processes_from_asking(
    database: Database, second: Database, repository: int
) -> None:
    for fails in (1, 2, 3):
        assert fail(database, repository, claimed(database, repository), seconds=4)
        row = known(second, repository)
        assert (row.fails, row.may_ask) == (fails, False)
        assert 0 < row.wait <= 4
        pass_time(database, 5)
        assert known(second, repository).may_ask


def test_a_clock_that_was_set_back_stops_nothing(database: Database, repository: int) -> None:
    assert confirm(database, repository, OLD, claimed(database, repository))
    checked_at = known(database, repository).checked_at
    assert miss(database, repository, claimed(database, repository, checked_at=checked_at), seconds=1e6)
    assert known(database, repository).wait <= LONGEST
    pass_time(database, -1e6)
    row = known(database, repository)
    assert row.may_ask
    assert row.age is not None
    assert row.age < 0, "which is no age"
    assert confirm(database, repository, NEW, claimed(database, repository, checked_at=row.checked_at))
    assert not known(database, repository).is_gone


def test_what_is_known_of_tags_that_have_gone_is_forgotten_page_by_page(database: Database, repository: int) -> None:
    names = [f"t{number}" for number in range(10)]
    with database.transaction() as connection:
        for name in names:
            mirror_tags.claim(connection, repository, name, checked_at=0.0, seconds=1)
    for name in names[::2]:
        point(database, repository, OLD, name=name)
    pages, place = 0, BEGINNING
    while True:
        with database.transaction() as connection:
            found = mirror_tags.remove_left(connection, place, count=3)
        pages += 1
        if found is None:
            break
        place = found
    assert pages == 4
    with database.transaction() as connection:
        left = [name for name in names if mirror_tags.claim(connection, repository, name, checked_at=0.0, seconds=1)]
    assert left == names[1::2], "of these there was no row"


def test_a_repository_that_goes_takes_its_rows_with_it(database: Database, repository: int) -> None:
    claimed(database, repository)
    with database.transaction() as connection:
        repositories.remove(connection, repository)
    with database.transaction() as connection:
        assert mirror_tags.remove_left(connection, BEGINNING, count=1) is None
