"""State document: ``.gc/state.json``, which says on storage which database collects there (proposal 0013).

Tests: ``tests/maintenance/collection/survey/test_gc_state.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Self

from registry.images.layout import COLLECTION_STATE
from registry.oci import strict_json

KINDS: Final = ("repositories", "trash")
"""The kinds of references that this release knows, and reads before it collects anything."""
MAX_BYTES: Final = 64 << 10
"""Bytes of the largest document that is read."""


class UnknownState(ValueError):
    """The document is not understood: a later release may have written it."""


@dataclass(frozen=True, slots=True)
class StateDocument:
    """What storage says of collection."""

    database: str
    """The database that collects."""
    run: int
    """The number of its last run; 0 before the first."""
    kinds: tuple[str, ...] = KINDS
    """The kinds of references that the storage has."""
    new: bool = False
    """The storage was empty when a release that collects first used it."""
    looked_at: float | None = None
    """When every repository was last compared with that database, by its clock."""
    instance: str | None = None
    """The instance of the database that was compared."""
    mark: str | None = None
    """The transaction of that database that noted it."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises UnknownState."""
        try:
            document = strict_json.loads(data)
            kinds = document["kinds"]
            looked_at, instance = document.get("looked_at"), document.get("instance")
            mark = document.get("mark")
            made = cls(
                database=_typed(document["database"], str),
                run=_typed(document["run"], int),
                kinds=tuple(_typed(kind, str) for kind in _typed(kinds, list)),
                new=_typed(document.get("new", False), bool),
                looked_at=None if looked_at is None else float(looked_at),
                instance=None if instance is None else _typed(instance, str),
                mark=None if mark is None else _typed(mark, str),
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise UnknownState(f"{COLLECTION_STATE} is not understood ({error})") from error
        return made

    def to_json(self) -> bytes:
        """One line."""
        document: dict[str, Any] = {"database": self.database, "run": self.run, "kinds": list(self.kinds)}
        document["new"] = self.new
        if self.looked_at is not None:
            document |= {"looked_at": self.looked_at, "instance": self.instance, "mark": self.mark}
        return json.dumps(document).encode() + b"\n"

    @property
    def unknown_kinds(self) -> list[str]:
        """The kinds of references that this release does not know."""
        return sorted(set(self.kinds) - set(KINDS))


def _typed(value: Any, kind: type) -> Any:  # noqa: ANN401 - any JSON value
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:80]!a} is no {kind.__name__}")
    return value
