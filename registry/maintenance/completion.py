"""Completion: the references of manifests that a release before this one has put, noted again behind the open port.

Tests: ``tests/images/test_references.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import references
from registry.images.omissions import LISTED, Source

if TYPE_CHECKING:
    from registry.images.omissions import Omission
    from registry.images.registry import Registry


class Completion:
    """For one thread; goes on where it was, and begins again at the end. Several processes at once are harmless.

    When everything is complete a step is one look at an empty index.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._after = references.START
        self._omitted: list[Omission] = []

    @property
    def is_needed(self) -> bool:
        """Whether there is a manifest to complete, or a round to end."""
        if self._after != references.START:
            return True
        with self._registry.backends.database.autocommit() as connection:
            return bool(references.incomplete(connection, after=self._after, count=1).get())

    def step(self) -> bool:
        """Complete the next page. Whether there may be more of this round.

        Raises StorageError, DatabaseError; the next step does it again.
        """
        last, omitted = self._registry.references.complete_next(self._after)
        self._omitted += omitted[: LISTED - len(self._omitted)]
        if last is not None:
            self._after = last
            return True
        self._registry.backends.omissions.note(Source.REFERENCES, "", self._omitted)
        self._after, self._omitted = references.START, []
        return False
