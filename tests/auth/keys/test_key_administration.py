"""Making and listing API keys, by several threads, and of a user among many others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from registry.auth.errors import TooManyKeys
from registry.auth.keys import key_administration
from registry.auth.keys.key_administration import LONG, SHARE, KeyAdministration, ListedKey
from registry.storage.middleware.faults import FaultyDriver
from tests.auth.keys.place import Keys


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    plain = Keys(tmp_path)
    plain.database.close()
    made = Keys(tmp_path, FaultyDriver(plain.driver))
    yield made
    made.database.close()


def administration(keys: Keys) -> KeyAdministration:
    return KeyAdministration(keys.store, keys.database, keys.users.__contains__, 90, lambda: keys.now)


def make(process: KeyAdministration, most: int | None = None, owner: str | None = "alice") -> ListedKey:
    _, key = process.create(owner=owner, repositories=[], actions=[], days=None, description="", most=most)
    return key


def reads(keys: Keys) -> int:
    assert isinstance(keys.driver, FaultyDriver)
    return keys.driver.calls["read"]


def test_keys_that_are_made_at_the_same_moment_are_as_many_as_their_owner_may_have(keys: Keys) -> None:
    process, together = administration(keys), Barrier(8)

    def attempt(_: int) -> bool:
        together.wait()
        try:
            make(process, most=3)
        except TooManyKeys:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 3
    assert len(process.page("", 100, owner="alice")) == 3
    make(process)
    assert len(process.page("", 100, owner="alice")) == 4, "an administrator makes more"


def test_pages_have_every_key_once_and_are_full_also_where_some_cannot_be_read(keys: Keys) -> None:
    process = administration(keys)
    made = sorted(make(process, owner=owner).record.key_id for owner in ("alice", None) * 6)
    for number in range(6):
        keys.driver.write(f".auth/keys/{number:016x}.json", b"{")
    for owner in ("alice", None):
        found: list[str] = []
        while page := process.page(found[-1] if found else "", 5, owner=owner):
            found += [key.record.key_id for key in page]
            assert len(page) == 5 or len(found) == (6 if owner else 12)
        assert found == ([key for key in made if key in found] if owner else made)
    assert [key.record.key_id for key in process.all()] == made


def test_a_list_that_takes_long_serves_for_a_while_but_for_what_this_process_does(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(key_administration, "monotonic", lambda: now[0])
    listing, lists = keys.store.ids, []

    def slow() -> Iterator[str]:
        lists.append(now[0])
        now[0] += 2 * LONG
        return listing()

    monkeypatch.setattr(keys.store, "ids", slow)
    one, other = administration(keys), administration(keys)
    made = [make(one).record.key_id]
    assert [key.record.key_id for key in one.page("", 10, owner="alice")] == made
    made.append(make(one, most=3).record.key_id)
    one.revoke(made.pop(0))
    assert [key.record.key_id for key in one.page("", 10, owner="alice")] == made
    assert len(lists) == 1
    made.append(make(other).record.key_id)
    assert len(one.page("", 10, owner="alice")) == 1
    now[0] += 2 * SHARE * LONG + 0.001
    assert [key.record.key_id for key in one.page("", 10, owner="alice")] == sorted(made)
    assert len(lists) == 2


def test_callers_that_ask_at_the_same_time_share_one_reading_of_what_is_new(keys: Keys) -> None:
    for _ in range(50):
        keys.add(owner=None)
    own, process, together = keys.add().key_id, administration(keys), Barrier(8)

    def ask(_: int) -> list[str]:
        together.wait()
        return [key.record.key_id for key in process.page("", 10, owner="alice")]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [[own]] * 8
    assert reads(keys) == 51 + 8, "each key once, and its own for each caller"
    keys.store.remove(own)
    before = reads(keys)
    assert process.page("", 10, owner="alice") == []
    assert reads(keys) == before, "what another process revoked is gone, and nothing is read"
