"""*Filled places*: what former releases leave behind when they are killed, each made once; tests change copies.

Tests: ``tests/upgrade/test_upgrade.py``.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from tests.soak.client import Client
from tests.upgrade.content import Content
from tests.upgrade.filling import APP, fill, numbered
from tests.upgrade.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.upgrade.places import Place, Tenancy

KILLS = 20
"""Kills, at most, until one comes before a fold."""
AT_ONCE = 5


def _filled(tenancy: Tenancy, former: list[str]) -> Content:
    """Fill a place by a former release, which is killed with records that no index has yet."""
    content = Content()
    process = tenancy.registry(former)
    for kill in range(KILLS):
        process.start()
        with Client(process.port) as client:
            writer = Writer(client, content)
            if kill == 0:
                fill(writer)
            for number in range(AT_ONCE):
                made, blobs = numbered(number, f"kill {kill}")
                writer.put(APP, made, f"kill{kill}-{number}", "latest", blobs=blobs)
            process.kill()
        if tenancy.tags_in_index(APP) != content.repositories[APP].tags:
            return content
    raise AssertionError("each kill came after the fold")


class FilledPlaces:
    """One for each kind of place and each former release that is asked for."""

    def __init__(self) -> None:
        self._made: dict[tuple[bool, str], tuple[Place, Content]] = {}

    def give(self, tenancy: Tenancy, former: list[str], directory: Path) -> Content:
        """Make the place of a tenancy, which is empty, one that this release has filled; what is in it."""
        key = (tenancy.place.shared, former[0])
        if key not in self._made:
            content = _filled(tenancy, former)
            self._made[key] = (tenancy.place, content)
        place, content = self._made[key]
        tenancy.place = place.copied(directory)
        return deepcopy(content)
