"""Listing: the objects of a bucket, by their keys, kinds, repositories and digests.

Tests: ``tests/migration/source/test_inventory.py``.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Final

import orjson

from registry.migration.source.objects import Link, ListedObject
from registry.migration.source.tables import BATCH, Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from registry.migration.source.objects import KeyInfo, ObjectKind
    from registry.storage.driver import ObjectStat, StorageDriver

_NOT_FINGERPRINTED: Final = "('index', 'marker', 'upload', 'our-record')"


class Listing(Tables):
    """The objects of one listing, and what was written since. Any thread."""

    def fill(
        self, driver: StorageDriver, classify: Callable[[str], KeyInfo | None], on_listed: Callable[[int], None]
    ) -> int:
        """List the whole root once; returns how many objects were seen. Raises StorageError.

        Objects that ``classify`` does not know are left out. ``on_listed`` is called with the count as it grows.
        """
        seen = 0
        listing = iter(driver.list(""))
        while page := list(itertools.islice(listing, BATCH)):
            entries = ((key, classify(key), stat) for key, stat in page)
            self.put("object", [_row(key, entry, stat) for key, entry, stat in entries if entry is not None])
            seen += len(page)
            on_listed(seen)
        return seen

    def note(self, key: str, entry: KeyInfo, stat: ObjectStat) -> None:
        """Have an object that was written since, as another listing would show it."""
        self.do("INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?)", *_row(key, entry, stat))

    def remove(self, key: str) -> None:
        """Have an object no more that was deleted since."""
        self.do("DELETE FROM object WHERE key = ?", key)

    def find(self, key: str) -> ListedObject | None:
        """The object at a key; None if the listing does not show one."""
        row = self.row("SELECT key, kind, repository, digest, size, etag FROM object WHERE key = ?", key)
        return None if row is None else ListedObject(*row)

    def etag(self, key: str) -> str:
        """The etag of the object at a key; empty if the listing does not show one."""
        found = self.find(key)
        return "" if found is None else found.etag

    def listed(self) -> Iterator[tuple[str, tuple[int, str]]]:
        """The key, size and etag of every object, by key."""
        rows = self.each("SELECT key, size, etag FROM object ORDER BY key")
        return ((key, (size, etag)) for key, size, etag in rows)

    def keys(self, *kinds: ObjectKind) -> Iterator[str]:
        """The keys of objects of some kinds, or of all objects by key."""
        where = f"WHERE kind IN ({marks(kinds)})" if kinds else "ORDER BY key"
        return (key for (key,) in self.each(f"SELECT key FROM object {where}", *kinds))

    def total_of(self, kind: ObjectKind) -> tuple[int, int, str]:
        """How many objects of a kind there are, their bytes, and one of their keys."""
        statement = "SELECT count(*), coalesce(sum(size), 0), coalesce(min(key), '') FROM object WHERE kind = ?"
        ((count, size, key),) = self.rows(statement, kind)
        return count, size, key

    def keys_in(self, path: str, *kinds: ObjectKind) -> Iterator[str]:
        """The keys of objects of some kinds in a repository, sorted."""
        statement = f"SELECT key FROM object WHERE repository = ? AND kind IN ({marks(kinds)}) ORDER BY key"
        return (key for (key,) in self.each(statement, path, *kinds))

    def keys_below(self, directory: str) -> list[str]:
        """The keys of objects below a small directory, sorted."""
        rows = self.rows("SELECT key FROM object WHERE key > ? AND key < ? ORDER BY key", directory, f"{directory}~")
        return [key for (key,) in rows]

    def key_through(self, directory: str) -> str | None:
        """Some key that has ``/directory/`` in it; None if none has."""
        found: str | None = self.value("SELECT key FROM object WHERE instr(key, ?) > 1 LIMIT 1", f"/{directory}/")
        return found

    def kinds_in(self, path: str) -> set[str]:
        """The kinds of the objects of a repository."""
        return {kind for (kind,) in self.rows("SELECT DISTINCT kind FROM object WHERE repository = ?", path)}

    def paths(self, *kinds: ObjectKind) -> list[str]:
        """The paths of repositories that have objects of some kinds, sorted."""
        statement = f"SELECT DISTINCT repository FROM object WHERE kind IN ({marks(kinds)}) ORDER BY repository"
        return [path for (path,) in self.rows(statement, *kinds)]

    def with_bytes(self, digest: str, kind: ObjectKind) -> Iterator[tuple[str, int]]:
        """The key and size of each object of a kind that is named by a digest and not empty, by key."""
        statement = "SELECT key, size FROM object WHERE digest = ? AND kind = ? AND size > 0 ORDER BY key"
        return ((key, size) for key, size in self.each(statement, digest, kind))

    def has_digest(self, path: str, digest: str, kinds: Iterable[ObjectKind]) -> bool:
        """Whether a repository has an object of one of these kinds that is named by a digest."""
        chosen = tuple(kinds)
        statement = f"SELECT 1 FROM object WHERE digest = ? AND repository = ? AND kind IN ({marks(chosen)})"
        return self.value(statement, digest, path, *chosen) is not None

    def links(self, path: str, *kinds: ObjectKind, data: ObjectKind) -> list[Link]:
        """The links of these kinds of a repository, by key; ``data`` is the kind of the objects they lead to."""
        rows = self.rows(
            "SELECT key, kind, digest, size, EXISTS (SELECT 1 FROM object d WHERE d.digest = o.digest AND d.kind = ?)"
            f" FROM object o WHERE repository = ? AND kind IN ({marks(kinds)}) ORDER BY key",
            data, path, *kinds,
        )  # fmt: skip
        return [Link(*row) for row in rows]

    def shards(self, *kinds: ObjectKind) -> list[str]:
        """The shards that digests of objects of these kinds fall into, sorted: ``sha256-ab``."""
        rows = self.rows(
            "SELECT DISTINCT replace(substr(digest, 1, instr(digest, ':') + 2), ':', '-') FROM object"
            f" WHERE kind IN ({marks(kinds)}) ORDER BY 1",
            *kinds,
        )
        return [shard for (shard,) in rows]

    def fingerprint(self, path: str) -> str:
        """The fingerprint of a repository, without its index, marker, uploads and records.

        Two listings have the same fingerprint if and only if they have the same keys, sizes and etags.
        """
        return fingerprint_of(
            self.each(
                "SELECT key, size, etag FROM object WHERE repository = ?"
                f" AND kind NOT IN {_NOT_FINGERPRINTED} ORDER BY key",
                path,
            )
        )

    def shard_fingerprint(self, shard: str, kind: ObjectKind) -> str:
        """The fingerprint of the objects of a kind whose digests fall into a shard."""
        low, high = bounds(shard)
        statement = "SELECT key, size, etag FROM object WHERE kind = ? AND digest >= ? AND digest < ? ORDER BY key"
        return fingerprint_of(self.each(statement, kind, low, high))


def bounds(shard: str) -> tuple[str, str]:
    """The lowest digest of a shard, and one above all of them: ``sha256-ab`` is ``sha256:ab`` to ``sha256:abg``."""
    algorithm, _, begin = shard.partition("-")
    return f"{algorithm}:{begin}", f"{algorithm}:{begin}g"


def _row(key: str, entry: KeyInfo, stat: ObjectStat) -> tuple[str, str, str, str, int, str]:
    return key, entry.kind, entry.repository, entry.digest, stat.size, stat.etag


def marks(values: tuple[ObjectKind, ...]) -> str:
    """As many marks for parameters as there are values."""
    return ", ".join("?" * len(values))


def fingerprint_of(objects: Iterable[tuple[str, int, str]]) -> str:
    """The sha256 over (key, size, etag) of objects that are sorted by key, as ``sha256:{hex}``.

    Each is one line of JSON, so that no two lists of objects have the same bytes.
    """
    hasher = hashlib.sha256()
    for key, size, etag in objects:
        hasher.update(orjson.dumps((key, size, etag), option=orjson.OPT_APPEND_NEWLINE))
    return f"sha256:{hasher.hexdigest()}"
