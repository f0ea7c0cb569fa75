"""Keys of tokens: made once by whichever process is first, followed in time, known to every process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.auth.key_set import KeySetInvalid, VerificationKey
from registry.auth.tokens.signing_keys import LEAD, LOOK, LOOK_AGAIN, PURPOSE, ROTATION, DatabaseKeys, FileKeys
from registry.database import signing_keys
from registry.database.engine import Database
from registry.database.errors import DatabaseUnavailable
from tests.auth.signing import ec, ed25519
from tests.support.sqlite import create_current


class Processes:
    """Processes over one database, with one clock."""

    def __init__(self, url: str) -> None:
        self.now = 1_800_000_000.0
        self.database = Database(url)

    def one(self) -> DatabaseKeys:
        return DatabaseKeys(self.database, lambda: self.now)

    def count(self) -> int:
        with self.database.autocommit() as connection:
            return len(signing_keys.of_purpose(connection, PURPOSE).get())


@pytest.fixture(params=["sqlite", "postgresql"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    if request.param == "sqlite":
        url = create_current(tmp_path / "cache.db")
    else:
        url = request.getfixturevalue("new_database")()
    made = Processes(url)
    yield made
    made.database.close()


def verifies(keys: DatabaseKeys, key: VerificationKey) -> bool:
    """As with a token: a second look where the first finds nothing."""
    return any(found.find(key.key_id, "HS256") is not None for found in (keys.keys(), keys.look_again()))


def test_processes_that_begin_together_make_one_key(processes: Processes) -> None:
    found: list[VerificationKey] = []
    threads = [threading.Thread(target=lambda: found.append(processes.one().signing())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({key.key_id for key in found}) == processes.count() == 1


def test_a_key_is_followed_by_another_and_signs_on_until_all_may_know_that(processes: Processes) -> None:
    first, second = processes.one(), processes.one()
    old = first.signing()
    processes.now += ROTATION
    assert first.signing() == old
    processes.now += LEAD
    new = first.signing()
    assert new != old
    assert verifies(second, new)
    assert verifies(second, old)
    processes.now += ROTATION
    first.signing()
    assert processes.count() == 2
    processes.now += LOOK
    assert not verifies(second, old)


def test_a_database_that_was_lost_ends_its_tokens_and_every_process_finds_the_new_key(processes: Processes) -> None:
    first, second = processes.one(), processes.one()
    old = first.signing()
    second.keys()
    with processes.database.transaction() as connection:
        signing_keys.remove(connection, f"{PURPOSE}-1")
    third = processes.one()
    new = third.signing()
    assert new.key_id != old.key_id
    assert not verifies(third, old)
    processes.now += LOOK_AGAIN
    assert verifies(second, new)
    processes.now += LOOK
    assert first.signing() == new


def test_unknown_keys_are_looked_for_once_a_second(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = processes.one()
    keys.keys()
    monkeypatch.setattr(processes.database, "autocommit", None)  # a look would fail
    for _ in range(100):
        keys.look_again()
    processes.now += LOOK_AGAIN
    with pytest.raises(TypeError):
        keys.look_again()


def test_known_keys_stay_while_the_database_is_away(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, late = processes.one(), processes.one()
    signing = keys.signing()

    def away() -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(processes.database, "autocommit", away)
    processes.now += LOOK
    assert keys.signing() == signing
    assert verifies(keys, signing)
    for ask in (late.signing, late.keys, late.look_again):
        with pytest.raises(DatabaseUnavailable):
            ask()


def test_a_file_has_a_secret_without_the_white_space_around_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"  " + b"s" * 32 + b"\n")
    keys = FileKeys(path)
    path.write_bytes(b"s" * 32)
    assert keys.signing() == FileKeys(path).signing()
    assert keys.signing().algorithms == ("HS256",)
    new = tmp_path / "new"
    new.write_bytes(b"t" * 32)
    new.replace(path)
    assert keys.keys().find(FileKeys(path).signing().key_id, "HS256") is not None


def test_a_file_of_private_keys_signs_with_the_first_and_verifies_with_all(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(ed25519().as_pem(private=True) + ec().as_pem(private=True))
    keys = FileKeys(path)
    assert keys.signing().key_id == ed25519().thumbprint()
    assert keys.keys().find(ec().thumbprint(), "ES256") is not None


def test_a_file_that_protects_nothing_refuses_the_start(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for content in (b"", b"s" * 31 + b"\n", ec().as_pem(private=False)):
        path.write_bytes(content)
        with pytest.raises(KeySetInvalid):
            FileKeys(path)
