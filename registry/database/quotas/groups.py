"""*Groups*: which repositories a quota is on, and what they have, as the database finds it.

They have their members, what their trash needs, and what their open uploads have received.

Tests: ``tests/database/quotas/test_usage.py``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction
    from registry.oci.quotas import Group


class Counted(NamedTuple):
    """What the repositories of a group have, but for open uploads."""

    used: int
    """Bytes of their distinct blobs, also of what only their trash needs."""
    largest: int
    """Bytes of the largest one of these."""


_MATCHES = "r.name ~ :plain_expression"
FUNCTION = (_MATCHES, "name_matches(r.name, :expression)")
"""What SQLite has in place of the operator of PostgreSQL."""
IN_GROUP = f"r.name >= :low AND r.name < :high AND {_MATCHES}"
"""The condition of a repository ``r``, with the values of a Group."""
HELD = (
    "SELECT 1 FROM blob b JOIN membership m ON m.blob_id = b.id JOIN repository r ON r.id = m.repository_id"  # noqa: S608 - constant conditions
    f" WHERE b.digest = :digest AND {IN_GROUP}"
    " UNION ALL SELECT 1 FROM blob b JOIN trash_reference x ON x.digest = b.digest"
    " JOIN repository r ON r.id = x.repository_id"
    f" WHERE b.digest = :digest AND {IN_GROUP}"
    " UNION ALL SELECT 1 FROM blob b JOIN trash_manifest t ON t.blob_id = b.id"
    " JOIN repository r ON r.id = t.repository_id"
    f" WHERE b.digest = :digest AND {IN_GROUP}"
)
"""A row for each repository of a group that has a blob, as a member or in its trash."""
TRASHED = (
    "SELECT t.blob_id AS id FROM repository r"  # noqa: S608 - constant conditions
    f" JOIN trash_manifest t ON t.repository_id = r.id WHERE {IN_GROUP}"
    " UNION SELECT b.id FROM repository r JOIN trash_reference x ON x.repository_id = r.id"
    f" JOIN blob b ON b.digest = x.digest WHERE {IN_GROUP}"
)
"""The blobs that the trash of a group needs, each once."""
_IS_HELD = Statement(f"{HELD} LIMIT 1", sqlite=FUNCTION)
_COUNT = Statement(
    "SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT), COALESCE(MAX(b.size), 0)"  # noqa: S608 - constant conditions
    " FROM (SELECT m.blob_id AS id FROM repository r"
    f" JOIN membership m ON m.repository_id = r.id WHERE {IN_GROUP} UNION {TRASHED}) has"
    " JOIN blob b ON b.id = has.id",
    sqlite=FUNCTION,
)
_RECEIVED = Statement(
    'SELECT CAST(COALESCE(SUM(r."offset"), 0) AS BIGINT) FROM'  # noqa: S608 - constant conditions
    ' (SELECT s.repository AS name, s."offset", s.id FROM upload_session s) r'
    f" WHERE r.id <> :session AND {IN_GROUP}",
    sqlite=FUNCTION,
)


def is_held(connection: Transaction, group: Group, digest: str) -> Later[bool]:
    """Whether a repository of the group has the blob, or can have it again."""
    rows = connection.execute(_IS_HELD, {**group._asdict(), "digest": digest})
    return rows.later(lambda rows: rows.first() is not None)


def count(connection: Transaction, group: Group) -> Counted:
    """What the repositories of the group have. Looks at each of their memberships, and at their trash."""
    return connection.execute(_COUNT, group._asdict()).one_as(Counted).get()


def received(connection: Transaction, group: Group, *, but: str = "") -> Later[int]:
    """The bytes that open upload sessions of the group have received and kept, without those of the session ``but``."""
    return connection.execute(_RECEIVED, {**group._asdict(), "session": but}).one_as(int)


def name_matches(name: str, expression: str) -> bool:
    """Whether an expression with ``^`` and ``$`` matches the whole name of a repository."""
    return _compiled(expression).match(name) is not None


_compiled = lru_cache(maxsize=256)(re.compile)
