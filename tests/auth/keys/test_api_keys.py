"""API keys: what they prove, and how soon they do not any more (check 12)."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from registry.auth.identity import Identity, Kind
from registry.auth.keys.api_keys import SILENT, STRANGERS, STRANGERS_OF_ONE, USES_PAUSE, ApiKeys
from registry.auth.keys.key_record import KeyRecord
from registry.auth.keys.key_scope import KeyScope
from registry.auth.keys.key_secret import KeySecret
from registry.database.credentials import key_uses
from registry.database.errors import DatabaseUnavailable
from registry.oci.errors import Unauthorized, Unavailable
from registry.storage.errors import StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.auth.keys.place import NOW, Keys


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    made = Keys(tmp_path)
    yield made
    made.database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keys]:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("new_database")()
    made = Keys(tmp_path, url=url)
    yield made
    made.database.close()


def uses(keys: Keys) -> dict[str, float]:
    with keys.database.autocommit() as connection:
        return key_uses.find(connection, list(keys.store.ids()))


def test_a_secret_proves_its_key_with_the_owner_as_it_is_now(keys: Keys) -> None:
    scope = KeyScope.of(["team/**"], ["pull"])
    secret = keys.add(scope=scope)
    identity, until = keys.process().identify(secret.text)
    assert (identity.who, identity.actor) == (f"key:{secret.key_id}", f"key:{secret.key_id}")
    assert identity.credential == secret.key_id
    assert identity.scope == scope
    assert identity.subject == keys.users["alice"]
    assert until == inf
    assert keys.process().find(secret.key_id) == identity


def test_a_key_without_owner_has_the_rights_that_are_given_to_it(keys: Keys) -> None:
    identity, _ = keys.process().identify(keys.add(owner=None).text)
    assert identity.subject is identity


def test_a_secret_that_was_never_given_is_refused(keys: Keys) -> None:
    keys.add()
    for text in (KeySecret.make().text, "stw_", "stw_x", ""):
        with pytest.raises(Unauthorized):
            keys.process().identify(text)


def test_a_record_of_the_same_id_does_not_make_another_secret_good(keys: Keys) -> None:
    """A secret that was found to have the first digits of a hash still lacks the rest."""
    secret = KeySecret.make()
    record = KeyRecord.make(secret, owner=None, scope=None, created=NOW, expires=None, description="")
    keys.store.add(record._replace(sha256=secret.key_id + "0" * 48))
    with pytest.raises(Unauthorized):
        keys.process().identify(secret.text)


def test_a_key_ends_at_its_time(keys: Keys) -> None:
    secret = keys.add(expires=NOW + 100)
    assert keys.process().identify(secret.text).until == NOW + 100
    keys.now += 100
    with pytest.raises(Unauthorized):
        keys.process().identify(secret.text)
    assert keys.process().find(secret.key_id) is None


@pytest.mark.parametrize("expires", [None, NOW + 1000])
def test_a_key_that_is_older_than_the_settings_allow_by_now_is_refused(keys: Keys, expires: float | None) -> None:
    secret = keys.add(expires=expires)
    assert keys.process(most_seconds=100).identify(secret.text).until == NOW + 100
    keys.now += 100
    with pytest.raises(Unauthorized):
        keys.process(most_seconds=100).identify(secret.text)
    assert keys.process(most_seconds=100).find(secret.key_id) is None
    assert keys.process().find(secret.key_id) is not None


def test_a_key_ends_with_its_owner_at_once(keys: Keys) -> None:
    process, secret = keys.process(), keys.add()
    identity, _ = process.identify(secret.text)
    assert process.is_current(identity, process.generation)
    del keys.users["alice"]
    assert not process.is_current(identity, process.generation)
    with pytest.raises(Unauthorized):
        process.identify(secret.text)
    assert process.find(secret.key_id) is None


def test_a_revoked_key_is_forgotten_by_every_process_with_its_next_look(replicas: Keys) -> None:
    secret, another = replicas.add(), replicas.add()
    processes = [replicas.process() for _ in range(3)]
    verified: list[tuple[ApiKeys, Identity, str]] = []
    for process in processes:
        process.look()
        verified.append((process, process.identify(secret.text).identity, process.generation))
    replicas.store.remove(secret.key_id)
    for process, identity, generation in verified:
        assert process.is_current(identity, generation)  # until it looks, twice a second
        process.look()
        assert not process.is_current(identity, generation)
        with pytest.raises(Unauthorized):
            process.identify(secret.text)
        assert process.find(secret.key_id) is None
        assert process.identify(another.text).identity.kind is Kind.KEY


def test_a_process_without_a_look_for_a_while_takes_no_key_from_memory(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, secret = keys.process(), keys.add()
    process.look()
    identity, generation = process.identify(secret.text).identity, process.generation
    with monkeypatch.context() as patched:
        patched.setattr(keys.database, "autocommit", unavailable)
        keys.now += SILENT
        process.look()
        assert process.is_current(identity, generation)
        keys.now += 1
        process.look()
        assert not process.is_current(identity, generation)
        assert process.identify(secret.text).identity == identity, "storage tells"
    process.look()
    assert process.is_current(identity, generation)


def test_uses_that_could_not_be_written_are_written_with_the_next(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    process, one, other = keys.process(), keys.add(), keys.add()
    for secret in (one, other):
        process.identify(secret.text)
    with monkeypatch.context() as patched:
        patched.setattr(keys.database, "transaction", unavailable)
        process.look()
    assert uses(keys) == {}
    keys.now += USES_PAUSE
    process.identify(one.text)
    process.look()
    assert uses(keys) == {one.key_id: NOW + USES_PAUSE, other.key_id: NOW}


def unavailable(**_options: object) -> None:
    raise DatabaseUnavailable("the database is away")


def test_a_key_that_is_revoked_during_its_verification_is_not_remembered(keys: Keys) -> None:
    process, secret = keys.process(), keys.add()
    process.look()
    before = process.generation
    identity, _ = process.identify(secret.text)
    keys.store.remove(secret.key_id)
    process.look()
    assert not process.is_current(identity, before)


def test_a_lost_database_loses_no_key_and_brings_no_revoked_one_back(keys: Keys, tmp_path: Path) -> None:
    kept, revoked = keys.add(), keys.add()
    keys.store.remove(revoked.key_id)
    (tmp_path / "new").mkdir()
    again = Keys(tmp_path / "new", keys.driver)
    process = again.process()
    process.look()
    assert process.identify(kept.text).identity.name == kept.key_id
    with pytest.raises(Unauthorized):
        process.identify(revoked.text)
    again.database.close()


def test_a_database_that_is_away_stops_no_key(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    process, secret = keys.process(), keys.add()

    def away() -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(keys.database, "autocommit", away)
    process.look()
    assert process.identify(secret.text).identity.name == secret.key_id


def test_a_storage_that_is_away_is_not_a_wrong_key(tmp_path: Path) -> None:
    plain = Keys(tmp_path)
    secret = plain.add()
    keys = Keys(tmp_path, FaultyDriver(plain.driver, [Fault("read", times=None)]))
    with pytest.raises(StorageUnavailable):
        keys.process().identify(secret.text)
    keys.database.close()
    plain.database.close()


def test_uses_are_written_seldom_and_the_latest_counts(replicas: Keys) -> None:
    one, other = replicas.add(), replicas.add()
    first, second = replicas.process(), replicas.process()
    for process in (first, second):
        process.look()
    first.identify(one.text)
    first.look()
    assert uses(replicas) == {}
    replicas.now += USES_PAUSE
    second.identify(one.text)
    first.look()
    assert uses(replicas) == {one.key_id: NOW}
    second.write_uses()
    first.identify(other.text)
    first.write_uses()
    assert uses(replicas) == {one.key_id: NOW + USES_PAUSE, other.key_id: NOW + USES_PAUSE}


def test_a_flood_of_secrets_that_were_made_up_reads_little_and_keeps_no_known_key_out(tmp_path: Path) -> None:
    plain = Keys(tmp_path)
    before = plain.add()
    keys = Keys(tmp_path, FaultyDriver(plain.driver))
    process = keys.process()
    process.look()
    answers = [attempt(process, KeySecret.make()) for _ in range(200)]
    assert answers == [Unauthorized] * STRANGERS_OF_ONE + [Unavailable] * (200 - STRANGERS_OF_ONE)
    driver = keys.driver
    assert isinstance(driver, FaultyDriver)
    assert driver.calls["read"] == STRANGERS_OF_ONE
    assert attempt(process, before) is None
    added = keys.add()
    assert attempt(process, added) is Unavailable  # from the same address, until the flood is over
    assert attempt(process, added, "192.0.2.2") is None
    assert attempt(process, added) is None
    for number in range(STRANGERS):  # a client with many addresses
        attempt(process, KeySecret.make(), f"198.51.100.{number}")
    assert driver.calls["read"] == STRANGERS + 2, "the keys that were good are read beside the flood"
    new = keys.add()
    assert attempt(process, new, "192.0.2.3") is Unavailable
    keys.now += 1
    assert attempt(process, new, "192.0.2.3") is None
    keys.database.close()
    plain.database.close()


def test_a_key_that_was_verified_is_no_stranger_also_where_keys_were_never_listed(tmp_path: Path) -> None:
    plain = Keys(tmp_path)
    secret = plain.add()
    keys = Keys(tmp_path, FaultyDriver(plain.driver, [Fault("children", times=None)]))
    process = keys.process()
    process.look()
    assert attempt(process, secret) is None
    for _ in range(STRANGERS_OF_ONE):
        attempt(process, KeySecret.make())
    assert attempt(process, KeySecret.make()) is Unavailable
    assert attempt(process, secret) is None
    keys.database.close()
    plain.database.close()


def attempt(process: ApiKeys, secret: KeySecret, address: str = "192.0.2.1") -> type[Exception] | None:
    """The error that refuses a secret; None if it is good."""
    try:
        process.admit(secret.text, address)
        process.identify(secret.text)
    except (Unauthorized, Unavailable) as error:
        return type(error)
    return None
