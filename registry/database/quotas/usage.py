"""Rows of quotas: how many bytes their repositories have, counted once and then carried on.

To add the sizes of 100,000 blobs up takes a good part of a second, a push of one a few milliseconds. So a row has what
was counted last and what pushes have added since, each in the transaction that makes its blob a member. What is
removed shows in the next count, which comes before each refusal and otherwise once in a while.

A count reads one snapshot and holds no lock. ``added`` in that snapshot says which additions it has in it: those after
it are added to its sum when it is noted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.quotas.groups import FUNCTION, HELD
from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction
    from registry.oci.quotas import Group


class UsageRow(NamedTuple):
    """What is known of a quota."""

    used: int
    """Bytes that its repositories have at most, but for what came in other ways than by a push."""
    added: int
    """Bytes that pushes have ever added."""
    due_at: float
    """When it is to be counted again (seconds since the epoch)."""


_FIND = Statement("SELECT used, added, due_at FROM quota_usage WHERE quota = :quota")
_ADD = Statement(
    "UPDATE quota_usage SET used = used + :size, added = added + :size WHERE quota = :quota"  # noqa: S608 - constant conditions
    f" AND used + :size <= :limit AND NOT EXISTS ({HELD}) RETURNING used",
    sqlite=FUNCTION,
)
_NOTE = Statement(
    "INSERT INTO quota_usage (quota, used, added, due_at) VALUES (:quota, :used, 0, :due_at) ON CONFLICT (quota)"
    " DO UPDATE SET used = excluded.used + quota_usage.added - :added, due_at = excluded.due_at"
    " RETURNING used, added, due_at"
)
_TAKE_TURN = Statement("UPDATE quota_usage SET due_at = :until WHERE quota = :quota AND due_at <= :now RETURNING used")


def find(connection: Transaction, quota: str) -> Later[UsageRow | None]:
    """What is known, or None."""
    return connection.execute(_FIND, {"quota": quota}).first_as(UsageRow)


def add(connection: Transaction, quota: str, group: Group, digest: str, *, size: int, limit: int) -> Later[bool]:
    """Add the bytes of a blob, which the caller has locked, before it becomes a member.

    False, and nothing is added, where the group has it already, where it would have more than ``limit`` bytes then, or
    was never counted. Until this transaction ends no other adds to the quota: it comes last of all that is locked.
    """
    values = {**group._asdict(), "quota": quota, "digest": digest, "size": size, "limit": limit}
    return connection.execute(_ADD, values).later(lambda rows: rows.first() is not None)


def note(connection: Transaction, quota: str, *, used: int, added: int, due_at: float) -> UsageRow:
    """Note what a snapshot was counted to have, in which ``added`` was that of the row, 0 without one."""
    values = {"quota": quota, "used": used, "added": added, "due_at": due_at}
    return connection.execute(_NOTE, values).one_as(UsageRow).get()


def take_turn(connection: Transaction, quota: str, *, now: float, until: float) -> bool:
    """Be the one process that counts a quota that is due; if it does not, another one is from ``until`` on.

    False if it is not due, or another process has taken the turn.
    """
    return connection.execute(_TAKE_TURN, {"quota": quota, "now": now, "until": until}).first() is not None
