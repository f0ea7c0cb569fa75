"""One change of a repository: allotted a number and kept as pending in the transaction that makes it (I11)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from registry.database import changes as change_rows
from registry.database import repositories as repository_rows
from registry.oci.descriptor import Descriptor
from registry.oci.moment import to_text
from registry.oci.record import Operation, Record
from registry.oci.withheld import NOTHING, Withheld

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.oci.digest import Digest


class Allotted(NamedTuple):
    """A change that is committed as pending; its record must reach storage before the client hears of it."""

    repository: RepositoryRow
    """With the new sequence number and version."""
    line: bytes
    """The record."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to happen, without its number."""

    operation: Operation
    digest: Digest | None
    descriptor: Descriptor | None
    tags: tuple[str, ...]
    actor: str
    old: dict[str, str] = field(default_factory=dict)
    withheld: Withheld = NOTHING
    released: Withheld = NOTHING
    pushed: str | None = None
    tagged: dict[str, str] = field(default_factory=dict)

    @classmethod
    def put(
        cls,
        digest: Digest,
        media_type: str,
        size: int,
        tags: Sequence[str],
        *,
        actor: str,
        old: dict[str, str] | None = None,
    ) -> Change:
        """A manifest is put, with tags or without."""
        return cls("put", digest, Descriptor(media_type, digest, size), tuple(tags), actor, old or {})

    def allot(self, connection: Transaction, repository: RepositoryRow, now: float) -> Allotted:
        """Allot the number and keep the change as pending, in the caller's transaction."""
        return self.keep(connection, repository_rows.allot(connection, repository.id), now)

    def keep(self, connection: Transaction, row: RepositoryRow, now: float) -> Allotted:
        """Keep the change as pending under the number that ``row`` was allotted in the same transaction."""
        record = Record(
            sequence=row.sequence,
            time=to_text(now),
            actor=self.actor,
            operation=self.operation,
            digest=self.digest,
            descriptor=self.descriptor,
            tags=self.tags,
            old=self.old,
            withheld=self.withheld,
            released=self.released,
            pushed=self.pushed,
            tagged=self.tagged,
        )
        line = record.to_line()
        change_rows.add(connection, row.id, row.sequence, line, state=change_rows.PENDING, now=now)
        return Allotted(row, line)
