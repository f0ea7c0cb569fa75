"""Migration journal reader: where the bytes of a source registry are, as migrations wrote it (proposal 0005).

``rebuild`` reads it before anything else, so that a lost database loses no location. Shards and baselines hold no times
and no names of processes: the same bucket gives the same bytes, however often the process that wrote them was killed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from registry.images.migration_journal.documents import Baseline, MigrationState, ShardEntry
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.storage.driver import ObjectStat, StorageDriver

MIGRATIONS: Final = "storage/migrations"
"""The directory of the journals of all migrations."""
BASE: Final = ".original.json"
"""The name of a base; begins with a dot, so that none of a repository is like it."""

_MAX_STATE = 1 << 20
_MAX_SHARD = 256 << 20
_MAX_BASE = 1 << 30
_ID = re.compile(r"[0-9]{4,}")

T = TypeVar("T")


def state_key(migration: str) -> str:
    """The key of the state of a migration."""
    return f"{MIGRATIONS}/{migration}/state.json"


def problems_key(migration: str) -> str:
    """The key of the problems that its last pass found."""
    return f"{MIGRATIONS}/{migration}/problems.jsonl"


def shards_prefix(migration: str) -> str:
    """The directory of shards."""
    return f"{MIGRATIONS}/{migration}/blobs"


def shard_key(migration: str, shard: str) -> str:
    """The key of a shard, by its name."""
    return f"{shards_prefix(migration)}/{shard}.jsonl"


def repositories_prefix(migration: str) -> str:
    """The directory of what is kept of repositories."""
    return f"{MIGRATIONS}/{migration}/repositories"


def base_key(migration: str, repository: str) -> str:
    """The key of a repository's baseline."""
    return f"{repositories_prefix(migration)}/{repository}/{BASE}"


def saved_index_key(migration: str, repository: str) -> str:
    """The key of the source's ``index.json``, if ours has taken its key."""
    return f"{repositories_prefix(migration)}/{repository}/.index"


def ours_key(migration: str, repository: str) -> str:
    """The key of our ``index.json`` as it was when a rollback gave the key back."""
    return f"{repositories_prefix(migration)}/{repository}/.ours"


class MigrationJournalReader:
    """Reads the journals of all migrations. Any thread; nothing is kept between two calls.

    Every method raises StorageError, and UnknownJournal for what it cannot understand.
    """

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver

    def ids(self) -> list[str]:
        """Every migration that there was, the oldest first. One LIST."""
        found = [child.name for child in self._driver.children(MIGRATIONS) if child.is_prefix]
        return sorted((name for name in found if _ID.fullmatch(name)), key=int)

    def state(self, migration: str) -> tuple[MigrationState, ObjectStat] | None:
        """Its state; None if the process that began it was killed before it wrote one."""
        key = state_key(migration)
        return self._read(key, _MAX_STATE, lambda data: MigrationState.parse(data, key))

    def states(self) -> list[tuple[MigrationState, ObjectStat]]:
        """The state of every migration that has one, the oldest first."""
        return [found for migration in self.ids() if (found := self.state(migration)) is not None]

    def newest(self) -> tuple[MigrationState, ObjectStat] | None:
        """The state of the newest migration, which counts; None where there is none."""
        return next((found for migration in reversed(self.ids()) if (found := self.state(migration))), None)

    def shard(self, migration: str, shard: str) -> tuple[list[ShardEntry], ObjectStat] | None:
        """The lines of one shard; None where there is none."""
        key = shard_key(migration, shard)
        return self._read(key, _MAX_SHARD, lambda data: [ShardEntry.parse(line, key) for line in data.splitlines()])

    def shards(self, migration: str) -> Iterator[tuple[str, list[ShardEntry]]]:
        """Every shard of a migration by its name, sorted, read one at a time."""
        prefix = shards_prefix(migration)
        for key, _ in self._driver.list(prefix):
            name = key.removeprefix(f"{prefix}/").removesuffix(".jsonl")
            found = self.shard(migration, name) if key == shard_key(migration, name) else None
            if found is not None:
                yield name, found[0]

    def bases(self, migration: str) -> Iterator[str]:
        """The names of the repositories that have a base in this migration, sorted by their keys."""
        prefix = f"{repositories_prefix(migration)}/"
        for key, _ in self._driver.list(prefix.removesuffix("/")):
            if key.endswith(f"/{BASE}"):
                yield key.removeprefix(prefix).removesuffix(f"/{BASE}")

    def base(self, repository: str) -> Baseline | None:
        """The base of a repository, the newest of any migration; None where none has one."""
        for migration in reversed(self.ids()):
            found = self.base_in(migration, repository)
            if found is not None:
                return found
        return None

    def base_in(self, migration: str, repository: str) -> Baseline | None:
        """The base of a repository in one migration."""
        key = base_key(migration, repository)
        found = self._read(key, _MAX_BASE, lambda data: Baseline.parse(data, key))
        return None if found is None else found[0]

    def ours(self, repository: str) -> bytes | None:
        """Our ``index.json`` as it was when the newest rollback gave its key back; None where none did."""
        for migration in reversed(self.ids()):
            found = self._read(ours_key(migration, repository), _MAX_BASE, bytes)
            if found is not None:
                return found[0]
        return None

    def _read(self, key: str, max_bytes: int, parse: Callable[[bytes], T]) -> tuple[T, ObjectStat] | None:
        try:
            data, stat = self._driver.read(key, max_bytes=max_bytes)
        except PathNotFound:
            return None
        return parse(data), stat
