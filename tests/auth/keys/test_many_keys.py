"""Twenty thousand API keys: what a process keeps of them, and reads for a login and a list."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from registry.auth.keys.key_administration import KeyAdministration
from registry.auth.keys.key_record import DAY, KeyRecord
from registry.auth.keys.key_secret import KeySecret
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import FaultyDriver
from tests.auth.keys.place import NOW, Keys

pytestmark = pytest.mark.soak

COUNT = 20_000
OWNERS = 200
BYTES_OF_ONE = 500
"""Memory for a key, its id and owner; its record has as much again, and stays on storage."""


def test_a_process_keeps_little_of_many_keys_and_reads_what_it_is_asked_for(tmp_path: Path) -> None:
    driver = FaultyDriver(MemoryDriver())
    keys, secrets = Keys(tmp_path, driver), [KeySecret.make() for _ in range(COUNT)]
    for number, secret in enumerate(secrets):
        owner = "alice" if number % OWNERS == 0 else f"user{number % OWNERS}"
        keys.store.add(
            KeyRecord.make(secret, owner=owner, scope=None, created=NOW, expires=NOW + DAY, description="for CI")
        )
    tracemalloc.start()
    try:
        process = keys.process()
        process.look()
        administration = KeyAdministration(keys.store, keys.database, keys.users.__contains__, 90, lambda: NOW)
        driver.calls.clear()
        for secret in secrets[: OWNERS * 100 : OWNERS]:
            process.admit(secret.text, None)
            process.identify(secret.text)
        assert driver.calls["read"] == 100
        assert len(administration.page("", 1000, owner="alice")) == COUNT // OWNERS
        driver.calls.clear()
        assert len(administration.page("", 10, owner="alice")) == 10
        assert driver.calls["read"] == 10
        assert sum(1 for _ in administration.all()) == COUNT
        assert tracemalloc.get_traced_memory()[0] < BYTES_OF_ONE * COUNT
        assert tracemalloc.get_traced_memory()[1] < 2 * BYTES_OF_ONE * COUNT
    finally:
        tracemalloc.stop()
        keys.database.close()
