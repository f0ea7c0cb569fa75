"""What a collector takes by the queries that are there for it: rows alone, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import manifests, memberships, repositories, upload_sessions
from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Transaction
    from registry.images.registry import Registry

PAGE = 100
_END_LEASES = Statement("UPDATE blob SET leased_until = 0, lease_until = clock_now() - 1")


def end_leases(registry: Registry) -> None:
    """Let the time of every lease pass, whosever clock it goes by."""
    with registry.backends.database.transaction() as connection:
        connection.execute(_END_LEASES, {})


def collect(registry: Registry, name: str, *, grace: float = 0.0) -> set[str]:
    """End what nothing needs in a repository; the digests of manifests and members that went."""
    with registry.backends.database.transaction() as connection:
        return collect_in(connection, registry, name, grace=grace)


def collect_in(connection: Transaction, registry: Registry, name: str, *, grace: float = 0.0) -> set[str]:
    """As ``collect``, in a transaction that its caller ends."""
    now, lease = registry.backends.clock(), registry.backends.policy.lease
    found = repositories.find(connection, name).get()
    assert found is not None
    repository = repositories.lock(connection, found.id).get()
    assert repository is not None
    if upload_sessions.any_live(connection, name, since=now - lease).get():
        return set()
    before = now - grace
    gone = manifests.unneeded(connection, repository.id, before=before, after=-1, count=PAGE).get()
    for manifest in gone:
        manifests.remove(connection, repository.id, manifest.blob_id)
        memberships.remove(connection, repository.id, manifest.blob_id)
    members = memberships.unneeded(connection, repository.id, before=before, after=-1, count=PAGE).get()
    for member in members:
        memberships.remove(connection, repository.id, member.id)
    repositories.raise_version(connection, repository.id)
    return {row.digest for row in gone} | {row.digest for row in members}
