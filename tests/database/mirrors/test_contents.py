"""What of a mirror is here, where there is nothing."""

from __future__ import annotations

from registry.database.engine import Database
from registry.database.mirrors import contents
from registry.database.mirrors.contents import ContentsRow


def test_an_empty_database_has_nothing_of_a_mirror(database: Database) -> None:
    with database.autocommit() as connection:
        assert contents.count(connection, "hub", "docker.io").get() == ContentsRow(0, 0, 0, 0)
