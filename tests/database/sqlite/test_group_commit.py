"""Several writers in one commit: each has its own fate until the commit, and all of them the commit's."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from registry.database.engine import Database
from registry.database.errors import DatabaseUnavailable
from registry.database.sqlite.group_commit import GroupCommit
from registry.database.sqlite.write_lock import WriteLock
from registry.database.statement import Statement
from registry.database.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


ADD = Statement("INSERT INTO word (text) VALUES (:text)")
ALL = Statement("SELECT text FROM word ORDER BY text")


class Recorder(Transaction):
    """Remembers the commands, and fails where it is told to."""

    def __init__(self, connection: sqlite3.Connection, database: Database) -> None:
        super().__init__(connection, database.clocks)
        self.connection = connection
        self.commands: list[str] = []
        self.fail: Callable[[str], None] = lambda _sql: None

    def run(self, sql: str) -> None:
        self.commands.append(sql)
        self.fail(sql)
        super().run(sql)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'words.db'}")
    with database.transaction() as transaction:
        transaction.run("CREATE TABLE word (text TEXT PRIMARY KEY)")
    yield database
    database.close()


@pytest.fixture
def recorder(database: Database) -> Iterator[Recorder]:
    connection = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    yield Recorder(connection, database)
    connection.close()


@pytest.fixture
def group(database: Database, recorder: Recorder, tmp_path: Path) -> Iterator[GroupCommit]:
    lock = WriteLock(tmp_path / "group", 10)
    yield GroupCommit(lock, recorder, 10)
    lock.close()


def words(database: Database) -> list[str]:
    with database.snapshot() as transaction:
        return transaction.execute(ALL, {}).all_as(str).get()


def together(group: GroupCommit, texts: list[str], inside: Callable[[str], None]) -> dict[str, BaseException | None]:
    """Writers that all wait while the first is in its block; what each of them raised."""
    outcomes: dict[str, BaseException | None] = {}
    entered, go = threading.Event(), threading.Event()

    def write(text: str, *, first: bool) -> None:
        try:
            with group as transaction:
                if first:
                    entered.set()
                    go.wait(60)
                transaction.execute(ADD, {"text": text})
                inside(text)
        except Exception as error:  # noqa: BLE001 - whatever it was is the outcome
            outcomes[text] = error
        else:
            outcomes[text] = None

    threads = [threading.Thread(target=write, args=(text,), kwargs={"first": not i}) for i, text in enumerate(texts)]
    threads[0].start()
    entered.wait(60)
    for thread in threads[1:]:
        thread.start()
    while group.waiting < len(texts) - 1:
        pass
    go.set()
    for thread in threads:
        thread.join(60)
    return outcomes


def test_writers_that_wait_share_one_commit(group: GroupCommit, recorder: Recorder, database: Database) -> None:
    assert together(group, ["a", "b", "c"], lambda _text: None) == {"a": None, "b": None, "c": None}
    assert recorder.commands.count("COMMIT") == 1
    assert words(database) == ["a", "b", "c"]


def test_a_writer_that_raises_loses_its_own_work_only(group: GroupCommit, database: Database) -> None:
    def refuse(text: str) -> None:
        if text in {"a", "c"}:
            raise ValueError(text)

    outcomes = together(group, ["a", "b", "c", "d"], refuse)
    assert isinstance(outcomes["a"], ValueError)
    assert isinstance(outcomes["c"], ValueError)
    assert (outcomes["b"], outcomes["d"]) == (None, None)
    assert words(database) == ["b", "d"]


def test_a_commit_that_fails_fails_for_everyone_and_leaves_nothing(
    group: GroupCommit, recorder: Recorder, database: Database
) -> None:
    def refuse(sql: str) -> None:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")

    recorder.fail = refuse
    outcomes = together(group, ["a", "b"], lambda _text: None)
    assert all(isinstance(error, DatabaseUnavailable) for error in outcomes.values())
    recorder.fail = lambda _sql: None
    assert words(database) == []
    with group as transaction:
        transaction.execute(ADD, {"text": "later"})
    assert words(database) == ["later"]


def test_where_sqlite_has_undone_everything_no_caller_is_told_that_it_is_written(
    group: GroupCommit, recorder: Recorder, database: Database
) -> None:
    def full(text: str) -> None:
        if text == "b":
            recorder.connection.rollback()  # what SQLite does by itself when the disk is full
            raise sqlite3.OperationalError("database or disk is full")

    outcomes = together(group, ["a", "b"], full)
    assert isinstance(outcomes["a"], DatabaseUnavailable)
    assert isinstance(outcomes["b"], sqlite3.OperationalError)
    assert words(database) == []


def _refuse(text: str) -> None:
    raise LookupError(text)


def test_many_threads_and_failures_keep_exactly_what_was_acknowledged(database: Database) -> None:
    acknowledged: set[str] = set()

    def work(number: int) -> None:
        for turn in range(50):
            text = f"{number}-{turn}"
            try:
                with database.transaction() as transaction:
                    transaction.execute(ADD, {"text": text})
                    if turn % 7 == number % 7:
                        _refuse(text)
            except LookupError:
                continue
            acknowledged.add(text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(words(database)) == acknowledged


def test_a_single_statement_of_a_writer_alone_commits_by_itself(
    group: GroupCommit, recorder: Recorder, database: Database
) -> None:
    with group_of_one(group) as transaction:
        transaction.execute(ADD, {"text": "single"})
    assert (recorder.commands, words(database)) == ([], ["single"])
    with group as transaction:  # turn and lock are free again
        transaction.execute(ADD, {"text": "usual"})
    assert words(database) == ["single", "usual"]


def test_a_single_statement_that_fails_leaves_turn_and_lock_to_the_next(group: GroupCommit, database: Database) -> None:
    for _ in range(2):
        with pytest.raises(sqlite3.IntegrityError), group_of_one(group) as transaction:
            transaction.execute(Statement("INSERT INTO word (text) VALUES (:text), (:text)"), {"text": "twice"})
    with group as transaction:
        transaction.execute(ADD, {"text": "next"})
    assert words(database) == ["next"]


def test_a_single_statement_joins_the_writers_that_wait(
    group: GroupCommit, recorder: Recorder, database: Database
) -> None:
    entered, go = threading.Event(), threading.Event()

    def first() -> None:
        with group as transaction:
            entered.set()
            go.wait(60)
            transaction.execute(ADD, {"text": "first"})

    def single() -> None:
        with group_of_one(group) as transaction:
            transaction.execute(ADD, {"text": "single"})

    threads = [threading.Thread(target=first), threading.Thread(target=single)]
    threads[0].start()
    assert entered.wait(60)
    threads[1].start()
    while group.waiting < 1:
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(60)
    assert recorder.commands == ["BEGIN IMMEDIATE", "SAVEPOINT writer", "RELEASE writer", "COMMIT"]
    assert words(database) == ["first", "single"]


@contextlib.contextmanager
def group_of_one(group: GroupCommit) -> Iterator[Transaction]:
    """The turn of a writer with one statement."""
    transaction = group.enter_single()
    try:
        yield transaction
    except BaseException:
        group.__exit__(*sys.exc_info())
        raise
    group.__exit__(None, None, None)
