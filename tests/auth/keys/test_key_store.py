"""Keys on storage, over every driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database import generations
from registry.database.errors import DatabaseUnavailable
from registry.database.transaction import Transaction
from registry.oci.errors import Unauthorized
from registry.storage.errors import AlreadyExists, StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.auth.keys.place import Keys
from tests.storage.drivers import DriverCase, cases


@pytest.fixture(params=cases())
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keys]:
    case: DriverCase = request.param
    driver = case.open(tmp_path / "store")
    made = Keys(tmp_path, driver)
    yield made
    made.database.close()
    driver.close()


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[tuple[Keys, FaultyDriver]]:
    plain = Keys(tmp_path)
    driver = FaultyDriver(plain.driver)
    plain.database.close()
    made = Keys(tmp_path, driver)
    yield made, driver
    made.database.close()


def mark(keys: Keys) -> str:
    with keys.database.autocommit() as connection:
        return generations.find(connection, "keys").get()


def stored(keys: Keys) -> list[str]:
    """The ids of the keys that can be read, in the order of the store."""
    return [record.key_id for record in keys.store.find_all(list(keys.store.ids()))]


def test_a_key_is_found_listed_and_removed(keys: Keys) -> None:
    assert stored(keys) == []
    one, other = keys.add(description="é"), keys.add(owner=None)
    found = keys.store.find(one.key_id)
    assert found is not None
    assert (found.sha256, found.owner, found.description) == (one.sha256, "alice", "é")
    assert stored(keys) == sorted([one.key_id, other.key_id])
    assert keys.store.remove(one.key_id)
    assert keys.store.find(one.key_id) is None
    assert not keys.store.remove(one.key_id)
    assert stored(keys) == [other.key_id]


def test_a_key_is_never_replaced(keys: Keys) -> None:
    secret = keys.add()
    record = keys.store.find(secret.key_id)
    assert record is not None
    with pytest.raises(AlreadyExists):
        keys.store.add(record._replace(owner="mallory"))
    assert keys.store.find(secret.key_id) == record


@pytest.mark.parametrize("key_id", ["", "..", "../../x", "a" * 15, "A" * 16, "a" * 17, "a" * 16 + "\n", "a\0"])
def test_what_is_no_id_finds_nothing(faulty: tuple[Keys, FaultyDriver], key_id: str) -> None:
    keys, driver = faulty
    assert keys.store.find(key_id) is None
    assert not keys.store.remove(key_id)
    assert not driver.calls


def test_what_is_no_key_is_left_out(keys: Keys) -> None:
    secret = keys.add()
    good, _ = keys.driver.read(f".auth/keys/{secret.key_id}.json", max_bytes=1 << 20)
    keys.driver.write(".auth/keys/README", b"keys")
    keys.driver.write(".auth/keys/0000000000000000.json", b"{")
    keys.driver.write(".auth/keys/1111111111111111.json", good)  # another's record under an id of its own
    assert stored(keys) == [secret.key_id]


def test_each_removal_changes_the_mark_also_one_that_is_repeated(keys: Keys) -> None:
    secret = keys.add()
    marks = [mark(keys)]
    for _ in range(2):
        keys.store.remove(secret.key_id)
        marks.append(mark(keys))
    assert marks[0] == ""
    assert len(set(marks)) == 3


@pytest.mark.parametrize("lost", ["write", "delete"])
def test_a_removal_whose_answer_was_lost_shows_in_the_list_and_is_finished_by_the_next(
    tmp_path: Path, lost: str
) -> None:
    plain = Keys(tmp_path)
    plain.database.close()
    first = {"write": 2, "delete": 1}[lost]  # the key itself is the first that is written
    keys = Keys(tmp_path, FaultyDriver(plain.driver, [Fault(lost, first=first, moment=When.AFTER)]))
    secret = keys.add()
    process = keys.process()
    process.look()
    with pytest.raises(StorageUnavailable):
        keys.store.remove(secret.key_id)
    with pytest.raises(Unauthorized):
        process.identify(secret.text)
    assert (stored(keys) == [secret.key_id]) is (lost == "write")
    before = mark(keys)
    assert (before == "") is (lost == "write"), "processes are told before the last trace goes"
    keys.store.remove(secret.key_id)
    assert mark(keys) not in {"", before}
    assert stored(keys) == []
    keys.database.close()


def test_a_removal_without_a_database_ends_the_key_and_leaves_it_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(tmp_path)
    secret = keys.add()

    def away(*_arguments: object) -> None:
        raise DatabaseUnavailable("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(generations, "change", away)
        with pytest.raises(DatabaseUnavailable):
            keys.store.remove(secret.key_id)
    with pytest.raises(Unauthorized):
        keys.process().identify(secret.text)
    assert stored(keys) == [secret.key_id], "an operator sees what is to be done again"
    assert mark(keys) == ""
    assert keys.store.remove(secret.key_id)
    assert mark(keys) != ""
    keys.database.close()


def test_a_key_that_only_a_later_release_understands_is_removed_and_told_of_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(tmp_path)
    keys.driver.write(".auth/keys/0000000000000000.json", b'{"version": 2}')
    there = []

    def change(connection: Transaction, name: str) -> None:
        there.append(bool(list(keys.store.ids())))
        generations_change(connection, name)

    generations_change = generations.change
    monkeypatch.setattr(generations, "change", change)
    assert keys.store.remove("0" * 16)
    assert there[-1] is False
    assert mark(keys) != ""
    keys.database.close()
