"""*Affected*: the repositories that have a damaged blob, and the tags that cannot be pulled without it.

Tests: ``tests/maintenance/scrub/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from registry.database import repositories
from registry.database.collection import scrub
from registry.database.collection.scrub import Holder
from registry.database.statement import BATCH

if TYPE_CHECKING:
    from registry.database.engine import Database
    from registry.database.transaction import Transaction

REPOSITORIES: Final = 100
"""Repositories that are named for one blob."""
TAGS: Final = 100
"""Tags that are named for one blob."""


class Affected(NamedTuple):
    """Names, at most REPOSITORIES and TAGS."""

    repositories: list[str]
    tags: list[str]
    """``repository:tag``, also of indexes that lead to the blob."""
    in_all: int
    """Repositories that have the blob."""


def find_affected(database: Database, blob_id: int, digest: str, *, only: str | None = None) -> Affected:
    """What a damaged blob takes with it, in one repository where ``only`` names it. Raises DatabaseError."""
    with database.snapshot() as connection:
        if only is None:
            holders = scrub.holders(connection, blob_id, count=REPOSITORIES).get()
            in_all = scrub.count_holders(connection, blob_id).get()
        else:
            row = repositories.find(connection, only).get()
            holders = [Holder(row.id, row.name)] if row is not None else []
            in_all = len(holders)
        tags: list[str] = []
        for holder in holders:
            if len(tags) < TAGS:
                found = scrub.tags(connection, holder.id, _leading_to(connection, holder.id, digest))
                tags += [f"{holder.name}:{tag}" for tag in found[: TAGS - len(tags)]]
    return Affected([holder.name for holder in holders], tags, in_all)


def _leading_to(connection: Transaction, repository_id: int, digest: str) -> list[str]:
    """The blob and the manifests of a repository that name it, and the indexes that list these: at most BATCH."""
    known = {digest: None}
    new = [digest]
    while new and len(known) < BATCH:
        new = [each for each in scrub.named_by(connection, repository_id, new) if each not in known]
        known.update(dict.fromkeys(new))
    return list(known)
