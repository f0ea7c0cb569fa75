"""Browser sessions: identities that have logged in with a browser. A row is found by a hash, never by a secret.

A database that is lost takes them along: their users log in again.

Tests: ``tests/auth/browser/test_sessions.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

_ADD = Statement(
    "INSERT INTO browser_session (id, actor, identity, attempt, created_at, used_at, expires_at)"
    " VALUES (:id, :actor, :identity, :attempt, :now, :now, :expires_at) ON CONFLICT (attempt) DO NOTHING"
)
_FIND = Statement("SELECT identity, used_at, expires_at FROM browser_session WHERE id = :id")
_USE = Statement("UPDATE browser_session SET used_at = :now WHERE id = :id AND used_at < :now")
_OF_ACTOR = Statement(
    "SELECT id FROM browser_session WHERE actor = :actor ORDER BY used_at DESC, id LIMIT :most OFFSET :kept"
)
_UNUSED = Statement("SELECT id FROM browser_session ORDER BY used_at DESC, id LIMIT :most OFFSET :kept")
_EXPIRED = Statement("SELECT id FROM browser_session WHERE expires_at <= :now ORDER BY expires_at LIMIT :most")
_REMOVE = Statement("DELETE FROM browser_session WHERE id = :id")


class BrowserSessionRow(NamedTuple):
    """A session."""

    identity: str
    """A JSON value: see ``registry.auth.tokens.token.claims_of``."""
    used_at: float
    """Seconds since the epoch; written now and then."""
    expires_at: float


def add(
    connection: Transaction,
    session_id: str,
    *,
    actor: str,
    identity: str,
    attempt: str | None,
    now: float,
    expires_at: float,
) -> bool:
    """Add a session. False if the attempt, which may be None, has made one already."""
    values = {"id": session_id, "actor": actor, "identity": identity, "attempt": attempt}
    return bool(connection.execute(_ADD, {**values, "now": now, "expires_at": expires_at}).rowcount)


def find(connection: Transaction, session_id: str) -> Later[BrowserSessionRow | None]:
    """The session, expired or not; None if there is none."""
    return connection.execute(_FIND, {"id": session_id}).first_as(BrowserSessionRow)


def use(connection: Transaction, session_id: str, *, now: float) -> None:
    """It was used then, or later."""
    connection.execute(_USE, {"id": session_id, "now": now})


def of_actor(connection: Transaction, actor: str, *, kept: int, most: int) -> Later[list[str]]:
    """The sessions of one actor but the ``kept`` that were used last, ``most`` of them."""
    return _ids(connection, _OF_ACTOR, actor=actor, kept=kept, most=most)


def unused(connection: Transaction, *, kept: int, most: int) -> Later[list[str]]:
    """All sessions but the ``kept`` that were used last, ``most`` of them."""
    return _ids(connection, _UNUSED, kept=kept, most=most)


def expired(connection: Transaction, *, now: float, most: int) -> Later[list[str]]:
    """The sessions that have ended by then, ``most`` of them."""
    return _ids(connection, _EXPIRED, now=now, most=most)


def remove(connection: Transaction, session_id: str) -> None:
    """End a session; no error when there is none."""
    connection.execute(_REMOVE, {"id": session_id})


def _ids(connection: Transaction, statement: Statement, **values: object) -> Later[list[str]]:
    return connection.execute(statement, values).later(lambda rows: [row[0] for row in rows.all()])
