"""Queries for orphans: whether any row knows of an object, or of the digest in its name.

Tests: ``tests/maintenance/collection/steps/test_orphans.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Transaction

_DIGESTS = Statement(
    "SELECT digest FROM blob WHERE digest IN :digests"
    " UNION SELECT digest FROM trash_reference WHERE digest IN :digests",
    expanding="digests",
)
_KEYS = Statement("SELECT key FROM blob_location WHERE store = :store AND key IN :keys", expanding="keys")
_REPOSITORIES = Statement("SELECT id FROM repository WHERE id > :after ORDER BY id LIMIT :count")
_ROWLESS = Statement(
    "SELECT DISTINCT r.digest FROM reference r WHERE r.repository_id = :repository AND r.digest > :after"
    " AND NOT EXISTS (SELECT 1 FROM blob b WHERE b.digest = r.digest) ORDER BY r.digest LIMIT :count"
)
_CURSOR = Statement("SELECT orphan_cursor FROM collection_state WHERE id = 1")
_SET_CURSOR = Statement("UPDATE collection_state SET orphan_cursor = :cursor WHERE id = 1")


def known_digests(connection: Transaction, digests: Sequence[str]) -> Later[set[str]]:
    """Those of ``digests``, at most BATCH, that have a row, if only a tombstone, or that the trash names."""
    return connection.execute(_DIGESTS, {"digests": digests}).later(lambda rows: {row[0] for row in rows.all()})


def known_keys(connection: Transaction, keys: Sequence[str], *, store: str) -> Later[set[str]]:
    """Those of ``keys``, at most BATCH, of which a row knows."""
    found = connection.execute(_KEYS, {"store": store, "keys": keys})
    return found.later(lambda rows: {row[0] for row in rows.all()})


def repositories(connection: Transaction, *, after: int, count: int) -> Later[list[int]]:
    """At most ``count`` ids of repositories above ``after``, in their order."""
    return connection.execute(_REPOSITORIES, {"after": after, "count": count}).all_as(int)


def rowless(connection: Transaction, repository_id: int, *, after: str, count: int) -> Later[list[str]]:
    """At most ``count`` digests above ``after`` that manifests of a repository name, and that no blob has."""
    values = {"repository": repository_id, "after": after, "count": count}
    return connection.execute(_ROWLESS, values).all_as(str)


def cursor(connection: Transaction) -> Later[str]:
    """The key up to which a sweep came that did not end; empty if the last one did."""
    rows = connection.execute(_CURSOR, {})
    return rows.later(lambda rows: (row[0] or "") if (row := rows.first()) else "")


def set_cursor(connection: Transaction, cursor: str) -> None:
    """Note how far a sweep is."""
    connection.execute(_SET_CURSOR, {"cursor": cursor})
