"""*Groups*: in which groups of the configuration a user or a key is."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Groups:
    """Any thread."""

    def __init__(self, members: Mapping[str, Iterable[str]]) -> None:
        """``members`` of each group, as rules name them: ``alice``, ``key:ID``."""
        groups: defaultdict[str, set[str]] = defaultdict(set)
        for group, names in members.items():
            for name in names:
                groups[name].add(group)
        self._groups = {name: frozenset(found) for name, found in groups.items()}

    def of(self, who: str) -> frozenset[str]:
        """The groups of one that rules name so."""
        return self._groups.get(who, frozenset())
