"""A storage and a database with API keys, for tests."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

from registry.auth.groups import Groups
from registry.auth.identity import Identity, Kind
from registry.auth.keys.api_keys import ApiKeys
from registry.auth.keys.key_record import KeyRecord
from registry.auth.keys.key_secret import KeySecret
from registry.auth.keys.key_store import KeyStore
from registry.database.engine import Database
from registry.storage.driver import StorageDriver
from registry.storage.memory import MemoryDriver
from tests.support.sqlite import create_current

NOW = 1_800_000_000.0


class Keys:
    """Processes over one storage and one database; alice is a user."""

    def __init__(self, directory: Path, driver: StorageDriver | None = None, url: str | None = None) -> None:
        self.now = NOW
        self.users = {"alice": Identity(Kind.USER, "alice", frozenset({"team"}), credential="1" * 16)}
        self.driver = driver or MemoryDriver()
        directory.mkdir(exist_ok=True)
        self.url = url or create_current(directory / "cache.db")
        self.database = Database(self.url)
        self.store = KeyStore(self.driver, self.database)

    def process(self, most_seconds: float = inf) -> ApiKeys:
        return ApiKeys(
            self.store,
            self.database,
            Groups({"robots": ["key:1"]}),
            self.users.get,
            lambda: self.now,
            most_seconds=most_seconds,
        )

    def add(self, **changes: Any) -> KeySecret:
        """A new key of alice without end and bound, or as ``changes`` say."""
        secret = KeySecret.make()
        fields: dict[str, Any] = {"owner": "alice", "scope": None, "expires": None, "description": ""}
        self.store.add(KeyRecord.make(secret, created=self.now, **(fields | changes)))
        return secret
