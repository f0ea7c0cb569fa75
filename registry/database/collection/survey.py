"""Queries of a survey: what rows say of repositories before anything is collected from them.

Tests: ``tests/maintenance/collection/survey/test_survey.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.repositories import UNREAD
from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Transaction


class SurveyedRow(NamedTuple):
    """A repository, as its rows say."""

    name: str
    sequence: int
    """The last change number allotted."""
    missing_manifests: int
    """Manifests that storage named and did not have."""
    is_incomplete: bool
    """There is a manifest of which what it names may not be known."""
    is_pending: bool
    """There is a change whose record may not be on storage."""

    @property
    def is_unread(self) -> bool:
        """Its content was not read from storage yet."""
        return self.sequence == UNREAD


_PAGE = Statement(
    "SELECT r.name, r.sequence, r.missing,"
    " EXISTS (SELECT 1 FROM manifest m WHERE m.repository_id = r.id AND m.complete = 0),"
    " EXISTS (SELECT 1 FROM change c WHERE c.repository_id = r.id AND c.state = 'pending')"
    " FROM repository r WHERE r.name > :last ORDER BY r.name LIMIT :count",
    # The order in which its indexes were made would decide, and that is not always the same.
    sqlite=("FROM manifest m ", "FROM manifest m INDEXED BY ix_manifest_incomplete "),
)
_KNOWN = Statement("SELECT r.name FROM repository r WHERE r.name IN :names", expanding="names")
_COUNT = Statement("SELECT count(*) FROM repository")


def page(connection: Transaction, *, last: str, count: int) -> Later[list[SurveyedRow]]:
    """At most ``count`` repositories whose names come after ``last``, by name."""
    rows = connection.execute(_PAGE, {"last": last, "count": count})
    return rows.later(
        lambda rows: [
            SurveyedRow(name, sequence, missing, bool(is_incomplete), bool(is_pending))
            for name, sequence, missing, is_incomplete, is_pending in rows.all()
        ]
    )


def known(connection: Transaction, names: Sequence[str]) -> Later[set[str]]:
    """Those of ``names``, at most BATCH, that the database has."""
    return connection.execute(_KNOWN, {"names": names}).later(lambda rows: {row[0] for row in rows.all()})


def count(connection: Transaction) -> Later[int]:
    """Repositories that the database has."""
    return connection.execute(_COUNT, {}).one_as(int)
