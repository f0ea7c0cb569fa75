"""*Freshness over SQLite*: one look for all requests of a turn of the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from registry.api.cache.freshness import Question, answer
from registry.database.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.sqlite.repository_versions import RepositoryVersions


class SqliteFreshness:
    """See Freshness. A turn is what the event loop runs between two waits for sockets.

    The look comes last in a turn, so it sees every commit that was acknowledged before one of the turn's requests was
    sent. Sixteen requests then cost the locks of one, which are two system calls of SQLite.
    """

    def __init__(self, versions: RepositoryVersions) -> None:
        """Close ``versions`` at the end."""
        self._versions = versions
        self._waiting: list[Question] = []

    def ask(self, repository: str, version: int, callback: Callable[[bool], object]) -> None:
        """See Freshness."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._look)
        self._waiting.append(Question(repository, version, callback))

    def close(self) -> None:
        """See Freshness."""
        self._versions.close()

    def _look(self) -> None:
        questions, self._waiting = self._waiting, []
        try:
            versions = self._versions.read({question.repository for question in questions})
        except DatabaseUnavailable:
            versions = {}
        answer(questions, versions)
