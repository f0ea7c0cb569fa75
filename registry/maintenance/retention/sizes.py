"""*Sizes*: the bytes of manifests with all that they name, and that this names in turn, whatever else names it.

Tests: ``tests/maintenance/retention/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import references
from registry.database.statement import batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.database.transaction import Transaction


def whole_sizes(connection: Transaction, repository_id: int, own: Mapping[int, int]) -> dict[int, int]:
    """The whole size of each manifest of ``own``, which has their own sizes by their ids."""
    named: dict[int, int] = {}
    lists: dict[int, list[int]] = {}
    seen, waiting = set(own), list(own)
    while waiting:
        children: list[int] = []
        for several in batches(waiting):
            named |= references.named_bytes(connection, repository_id, several).get()
            for index, child in references.children(connection, repository_id, several).get():
                lists.setdefault(index, []).append(child)
                children.append(child)
        waiting = [child for child in dict.fromkeys(children) if child not in seen]
        seen.update(waiting)
    return {manifest: size + _sum(manifest, named, lists) for manifest, size in own.items()}


def _sum(manifest: int, named: Mapping[int, int], lists: Mapping[int, list[int]]) -> int:
    seen, left = {manifest}, [manifest]
    while left:
        new = [child for child in lists.get(left.pop(), ()) if child not in seen]
        seen.update(new)
        left += new
    return sum(named.get(each, 0) for each in seen)
