"""*Change history*: the records of a repository, the last first, as operators and users read them.

Tests: ``tests/admin/test_history.py``.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.images.records.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.images.backends import Backends
    from registry.images.repositories import Repositories
    from registry.oci.record import Record

LEAST_BYTES: Final = 300
"""Bytes of the document of a change without tags, about."""


class ChangePage(NamedTuple):
    """A part of a history."""

    records: list[Record]
    """The last first; perhaps none although there is more."""
    before: int | None
    """What the next page comes before; None if there is none."""


class ChangeHistory:
    """Any thread. It reads records, and writes nothing."""

    def __init__(self, backends: Backends, repositories: Repositories) -> None:
        self._journal = Journal(backends)
        self._repositories = repositories

    def records(self, name: str, tag: str | None = None, *, before: int | None = None) -> Iterator[Record]:
        """The records below the number ``before``, the last first; of one tag if ``tag`` is given.

        They are read as they are asked for: a repository may have millions. Raises NameUnknown, Unavailable,
        StorageError.
        """
        row = self._repositories.require(name)
        found = self._journal.backwards(name, row.sequence + 1 if before is None else before)
        return (record for record in found if tag is None or tag in record.tags)

    def page(
        self,
        name: str,
        tag: str | None = None,
        *,
        before: int | None = None,
        count: int,
        seconds: float = inf,
        most_bytes: float = inf,
    ) -> ChangePage:
        """At most ``count`` records below the number ``before``, the last first; of one tag if ``tag`` is given.

        A page ends after ``seconds``, whatever it has: a tag may have changed once among millions of changes. It ends
        with the record that has the documents reach ``most_bytes``, about: each may be of thousands of tags.
        Raises NameUnknown, Unavailable, StorageError.
        """
        row, deadline = self._repositories.require(name), monotonic() + seconds
        found: list[Record] = []
        size = 0
        end = row.sequence + 1 if before is None else before
        for record in self._journal.backwards(name, end) if count else ():
            if tag is None or tag in record.tags:
                found.append(record)
                size += _bytes_of(record, tag)
            if len(found) == count or size >= most_bytes or monotonic() >= deadline:
                return ChangePage(found, record.sequence if record.sequence > 1 else None)
        return ChangePage(found, None)


def _bytes_of(record: Record, tag: str | None) -> int:
    """The bytes of its document, about."""
    shown = record.tags if tag is None else (tag,)
    return LEAST_BYTES + sum(2 * len(name) + len(record.old.get(name, "")) for name in shown)


def document_of(record: Record, tag: str | None = None) -> dict[str, object]:
    """A record as JSON; with ``tag`` what it did to that one."""
    digest = record.descriptor.digest if record.descriptor is not None else record.digest
    shown = record.tags if tag is None else (tag,)
    return {
        "change": record.sequence,
        "time": record.time,
        "actor": record.actor,
        "operation": record.operation,
        "digest": digest,
        "tags": list(shown),
        "before": {name: record.old[name] for name in shown if name in record.old},
    }
