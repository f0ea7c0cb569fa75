"""Keys on storage, over every driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database import generations
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


def test_a_key_is_found_listed_and_removed(keys: Keys) -> None:
    assert list(keys.store.all()) == []
    one, other = keys.add(description="é"), keys.add(owner=None)
    found = keys.store.find(one.key_id)
    assert found is not None
    assert (found.sha256, found.owner, found.description) == (one.sha256, "alice", "é")
    assert [record.key_id for record in keys.store.all()] == sorted([one.key_id, other.key_id])
    assert keys.store.remove(one.key_id)
    assert keys.store.find(one.key_id) is None
    assert not keys.store.remove(one.key_id)
    assert [record.key_id for record in keys.store.all()] == [other.key_id]


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
    assert [record.key_id for record in keys.store.all()] == [secret.key_id]


def test_each_removal_changes_the_mark_also_one_that_is_repeated(keys: Keys) -> None:
    secret = keys.add()
    marks = [mark(keys)]
    for _ in range(2):
        keys.store.remove(secret.key_id)
        marks.append(mark(keys))
    assert marks[0] == ""
    assert len(set(marks)) == 3


def test_a_removal_whose_answer_was_lost_is_finished_by_the_next(tmp_path: Path) -> None:
    plain = Keys(tmp_path)
    plain.database.close()
    keys = Keys(tmp_path, FaultyDriver(plain.driver, [Fault("delete", moment=When.AFTER)]))
    secret = keys.add()
    with pytest.raises(StorageUnavailable):
        keys.store.remove(secret.key_id)
    assert mark(keys) == ""
    keys.store.remove(secret.key_id)
    assert mark(keys) != ""
    assert keys.store.find(secret.key_id) is None
    keys.database.close()
