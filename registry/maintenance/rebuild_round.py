"""Rebuild round: how far a rebuild has come, written down, so that the next one goes on there.

Tests: ``tests/maintenance/test_rebuild.py``.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from registry.database.rebuild import rounds
from registry.database.rebuild.rounds import RoundRow
from registry.oci.moment import to_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry.images.backends import Backends

VALID_SECONDS = 86_400.0
"""A round that began longer ago is not gone on with: what it has read may be of yesterday."""
LISTED = 10_000
"""Problems that are listed; more are told by their number."""
LISTED_BYTES = 256 << 10
"""Bytes of them."""
PAGE = 500
"""Names of repositories that are read at a time."""


class RebuildRound:
    """For one thread. Two processes on one round do some repositories twice, and miss none."""

    def __init__(self, backends: Backends, row: RoundRow) -> None:
        """Use ``open``."""
        self._database = backends.database
        self._row = row
        self.began_at = to_text(row.began_at)
        """RFC 3339 in UTC."""
        self.began_after = row.reached
        """The last repository that an earlier process has done; "" for a round that begins."""
        self._problems: list[str] = json.loads(row.problems)
        self._bytes = sum(map(len, self._problems))

    @classmethod
    def open(cls, backends: Backends, *, anew: bool) -> RebuildRound:
        """The round that an earlier process has not ended; a new one without that, or with ``anew``."""
        found = None if anew else cls.find(backends)
        if found is not None:
            return found
        row = RoundRow(secrets.randbits(62) | 1, backends.clock(), "", 0, "[]", 0)
        with backends.database.transaction() as connection:
            rounds.begin(connection, row)
        return cls(backends, row)

    @classmethod
    def find(cls, backends: Backends) -> RebuildRound | None:
        """The round that has not ended; None if there is none, or if it began too long ago."""
        with backends.database.autocommit() as connection:
            row = rounds.find(connection).get()
        if row is None or not 0 <= backends.clock() - row.began_at < VALID_SECONDS:
            return None
        return cls(backends, row)

    @property
    def reached(self) -> str:
        """The last repository that is done, in the order of the walk; "" for none."""
        return self._row.reached

    @property
    def repositories(self) -> int:
        """Repositories that storage and database agree on, by all processes of the round."""
        return self._row.repositories

    @property
    def problems(self) -> list[str]:
        """What could not be read, by all processes of the round."""
        unlisted = self._row.unlisted
        return [*self._problems, f"and {unlisted:,} more: the log has them"] if unlisted else self._problems

    def advance(self, reached: str, done: Iterable[int], problems: Iterable[str]) -> None:
        """Note that all repositories up to ``reached`` are done, and ``done`` are ids of those that are ours."""
        ids = list(done)
        self._row = self._row._replace(reached=reached, repositories=self._row.repositories + len(ids))
        self.add_problems(problems)
        # Not durable: what a crash of the server takes is done again.
        with self._database.transaction(durable=False) as connection:
            rounds.advance(connection, self._row, done=ids)

    def add_problems(self, problems: Iterable[str]) -> None:
        """List problems, with the next ``advance`` for later processes too."""
        unlisted, before = self._row.unlisted, len(self._problems)
        for problem in problems:
            self._bytes += len(problem)
            if len(self._problems) < LISTED and self._bytes <= LISTED_BYTES:
                self._problems.append(problem)
            else:
                unlisted += 1
        text = json.dumps(self._problems) if len(self._problems) > before else self._row.problems
        self._row = self._row._replace(problems=text, unlisted=unlisted)

    def not_done(self) -> Iterator[str]:
        """Names of repositories that the database has, and of which this round has not said that they are done."""
        last = ""
        while True:
            with self._database.autocommit() as connection:
                names = rounds.unmarked(connection, self._row.number, last=last, count=PAGE).get()
            if not names:
                return
            yield from names
            last = names[-1]

    def end(self) -> None:
        """The next rebuild begins anew."""
        with self._database.transaction() as connection:
            rounds.end(connection, self._row.number)
