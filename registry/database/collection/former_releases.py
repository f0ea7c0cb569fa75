"""Former releases: a trigger notes each process that takes a lease and whose release knows nothing of collection.

Every server takes one within five minutes, also where another process has it: the trigger is asked before that.
It is run by the processes of former releases, whose connections have none of our functions (``database.clock``).

Tests: ``tests/database/collection/test_state.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MACHINE: Final = "(julianday('now') - 2440587.5) * 86400.0"
_SERVER: Final = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
_NOTE: Final = (
    "INSERT INTO collection_state (id, run, intended, former_holder, former_at) VALUES (1, 0, 0, NEW.holder, {now})"
    " ON CONFLICT (id) DO UPDATE SET former_holder = excluded.former_holder, former_at = excluded.former_at;"
)
SQLITE: Final = (
    "CREATE TRIGGER former_release BEFORE INSERT ON lease WHEN instr(NEW.holder, ':collects:') = 0"
    f" BEGIN {_NOTE.format(now=_MACHINE)} END"
)
FUNCTION: Final = (
    "CREATE OR REPLACE FUNCTION note_former_release() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    f" {_NOTE.format(now=_SERVER)} RETURN NEW; END $$"
)
POSTGRESQL: Final = (
    "CREATE TRIGGER former_release BEFORE INSERT ON lease FOR EACH ROW"
    " WHEN (position(':collects:' IN NEW.holder) = 0) EXECUTE FUNCTION note_former_release()"
)


def create(connection: Connection) -> None:
    """Make the trigger; the table of leases is there."""
    for statement in [SQLITE] if connection.dialect.name == "sqlite" else [FUNCTION, POSTGRESQL]:
        connection.exec_driver_sql(statement)
