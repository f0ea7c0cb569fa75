"""The clock by which rows say when something ends: one for all processes, whatever their own clocks say.

Statements name it as functions, of which ``Statement`` makes what the database has:

================  =======================================  =============================================
in a statement    PostgreSQL                               SQLite, whose users are on one machine
================  =======================================  =============================================
``clock_now()``   the server's seconds since the epoch     seconds since the machine was started
``clock_name()``  empty: there is one                      which start of the machine that was
``wall_now()``    the server's seconds since the epoch     the machine's seconds since the epoch
================  =======================================  =============================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from registry.clocks import Clocks

_SERVER: Final = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
POSTGRESQL: Final = {"clock_now()": _SERVER, "wall_now()": _SERVER, "clock_name()": "''"}
"""What PostgreSQL has in the place of these functions."""
PLACES: Final = {"clock_now()": ":clock_now", "wall_now()": ":wall_now", "clock_name()": ":clock_name"}
"""What SQLite has in their place where a statement is given the readings of the clocks."""


def readings(clocks: Clocks) -> dict[str, float | str]:
    """What the clocks say, by the names of PLACES."""
    return {"clock_now": clocks.boot(), "wall_now": clocks.wall(), "clock_name": clocks.boot_id}


def add_functions(connection: Any, clocks: Clocks) -> None:  # noqa: ANN401 - a connection of sqlite3
    """Give a connection to SQLite these functions."""
    connection.create_function("clock_now", 0, clocks.boot)
    connection.create_function("wall_now", 0, clocks.wall)
    connection.create_function("clock_name", 0, lambda: clocks.boot_id)
