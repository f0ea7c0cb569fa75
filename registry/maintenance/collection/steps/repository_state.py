"""*Repository state*: whether anything of a repository may go, as far as its rows say (I7, I14).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database import changes, repositories, stores, upload_sessions
from registry.maintenance.collection.finding import Kept

if TYPE_CHECKING:
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.maintenance.collection.context import Context


class RepositoryState(NamedTuple):
    """What keeps content of a repository."""

    keeps_all: Kept | None
    """Why nothing of it may go; None if something may."""
    unwritten: float | None
    """Seconds since the oldest change whose record may not be on storage: what fell out of use since then stays."""
    pulls_known: float = 0.0
    """Seconds since all pulls are known, of a repository whose content stays by these."""

    def keeps(self, age: float) -> Kept | None:
        """Why something stays that has been out of use for so long; None if it may go."""
        if self.keeps_all is not None:
            return self.keeps_all
        return Kept.UNWRITTEN if self.unwritten is not None and age <= self.unwritten else None


def read(connection: Transaction, context: Context, repository: RepositoryRow) -> RepositoryState:
    """As the rows have it, which a transaction that acts by it has locked the repository for."""
    backends = context.registry.backends
    now = backends.clock()
    live = upload_sessions.any_live(connection, repository.name, since=now - backends.policy.lease)
    oldest = changes.oldest_pending(connection, repository.id)
    is_unknown = repository.name in context.unsafe or repository.is_unread or repository.missing_manifests
    keeps = Kept.UNKNOWN if is_unknown else None
    if live.get():
        keeps = keeps or Kept.UPLOADING
    known = _pulls_known(connection, repository, now) if context.span_of(repository.name).is_by_pulls else 0.0
    pending = oldest.get()
    return RepositoryState(keeps, None if pending is None else now - pending, known)


def _pulls_known(connection: Transaction, repository: RepositoryRow, now: float) -> float:
    """A database that was lost has lost the pulls of before."""
    since = stores.reached_at(connection, stores.PULLS_SINCE)
    created = repositories.created_at(connection, repository.id).get()
    reached = since.get()
    return 0.0 if reached is None or created is None else now - max(reached, created)
