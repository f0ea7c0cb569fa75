"""*Browser sessions*: identities that have logged in with a browser, for all processes over one database.

A session says which identity it is of, and nothing of its rights: a user that is gone or has another password, and a
provider that is configured no more or otherwise, end it at once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import orjson

from registry.auth.browser.attempt import derived
from registry.auth.identity import Kind
from registry.auth.tokens.bearer import Directory
from registry.auth.tokens.token import claims_of, identity_of
from registry.database.credentials import browser_sessions
from registry.oci.errors import RequestInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.auth.identity import Identity
    from registry.database.engine import Database

SECONDS: Final = 8 * 3600.0
"""The life of a session, whether it is used or not."""
MOST_OF_ONE: Final = 20
"""Sessions of one identity; with another one, the one that was used longest ago ends."""
MOST: Final = 10_000
"""Sessions of all, looked at every few minutes."""
USE_PAUSE: Final = 300.0
"""Seconds between two writes of when a session was used."""
_BATCH: Final = 500
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_RANDOM_BYTES: Final = 32


class LiveDirectory(Directory, Protocol):
    """A directory that can look anew."""

    def look(self) -> None:
        """Learn what has changed."""
        ...


class BrowserSession(NamedTuple):
    """One that goes on."""

    identity: Identity
    expires: float
    """Seconds since the epoch."""
    form_token: str
    """What a form has to have that changes something."""


class BrowserSessions:
    """Any thread. Every method raises DatabaseError."""

    def __init__(
        self,
        database: Database,
        directory: LiveDirectory,
        versions: Mapping[str, str],
        clock: Callable[[], float] = time,
    ) -> None:
        """``versions`` of the providers at which users log in, by their names: see ``LoginProvider.version``."""
        self._database = database
        self._directory = directory
        self._versions = versions
        self._clock = clock

    def begin(self, identity: Identity, attempt: str | None = None, former: str | None = None) -> str:
        """Begin a session of an identity that has just been verified. Returns the secret that the browser keeps.

        ``attempt`` is the mark of the login, of which a second session is refused with RequestInvalid. ``former`` is
        the secret of a session that this one follows, and which ends.
        """
        secret, now = secrets.token_urlsafe(_RANDOM_BYTES), self._clock()
        document = orjson.dumps(claims_of(identity)).decode()
        with self._database.transaction() as connection:
            is_first = browser_sessions.add(
                connection,
                _id(secret),
                actor=identity.actor,
                identity=document,
                attempt=attempt,
                now=now,
                expires_at=now + SECONDS,
            )
            ending = browser_sessions.of_actor(connection, identity.actor, kept=MOST_OF_ONE, most=_BATCH).get()
            for session_id in sorted([*ending, *([_id(former)] if former else [])]):
                browser_sessions.remove(connection, session_id)
        if not is_first:
            raise RequestInvalid("this login was used already; begin it again")
        return secret

    def find(self, secret: str) -> BrowserSession | None:
        """The session of a secret; None if it has ended, or there is none. Raises StorageError."""
        if not _SECRET.fullmatch(secret):
            return None
        with self._database.autocommit() as connection:
            row = browser_sessions.find(connection, _id(secret)).get()
        now = self._clock()
        if row is None or row.expires_at <= now:
            return None
        identity = self._live(identity_of(orjson.loads(row.identity)))
        if identity is None:
            return None
        if now - row.used_at >= USE_PAUSE:
            with self._database.transaction() as connection:
                browser_sessions.use(connection, _id(secret), now=now)
        return BrowserSession(identity, row.expires_at, derived(secret, "form"))

    def end(self, secret: str) -> None:
        """End a session in every process; no error when there is none."""
        with self._database.transaction() as connection:
            browser_sessions.remove(connection, _id(secret))

    def expire(self) -> None:
        """Remove what has ended, and beyond MOST what was used longest ago."""
        while True:
            with self._database.autocommit() as connection:
                expired = browser_sessions.expired(connection, now=self._clock(), most=_BATCH).get()
            with self._database.autocommit() as connection:
                unused = browser_sessions.unused(connection, kept=MOST, most=_BATCH).get()
            if not expired and not unused:
                return
            with self._database.transaction() as connection:
                for session_id in sorted({*expired, *unused}):
                    browser_sessions.remove(connection, session_id)

    def _live(self, identity: Identity) -> Identity | None:
        """The identity as it is now; None if it is gone or has changed."""
        if identity.kind is Kind.OIDC:
            version = self._versions.get(identity.name.partition("/")[0])
            return identity if version == identity.credential else None
        found = self._directory.find(identity.kind, identity.name)
        if found is None or found.credential != identity.credential:
            # A process that has looked a moment later may have begun this session with the new password.
            self._directory.look()
            found = self._directory.find(identity.kind, identity.name)
        return found if found is not None and found.credential == identity.credential else None


def _id(secret: str) -> str:
    """What finds the row of a session. No attacker finds one of 2**256 secrets by trying: one round is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()
