"""The clock by which PostgreSQL goes in one database, so that its time too passes when a test says so."""

from __future__ import annotations

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import make_url

_INSTALL = SQL("""
CREATE SCHEMA testing;
CREATE TABLE testing.clock (now double precision NOT NULL, set_at timestamptz NOT NULL);
INSERT INTO testing.clock VALUES (0, clock_timestamp());
CREATE FUNCTION testing.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT to_timestamp(now) + (pg_catalog.clock_timestamp() - set_at) / 1000 FROM testing.clock';
""")
"""It ticks, though slowly: what happens later has a later time."""


_USE = SQL("ALTER DATABASE {} SET search_path = testing, pg_catalog, public")


def install(url: str) -> None:
    """Put a clock into a database, and use it."""
    with _connected(url) as connection:
        connection.execute(_INSTALL)
    use(url)


def use(url: str) -> None:
    """Let ``clock_timestamp()`` mean the clock of a test, for every connection that is made from now on."""
    database = make_url(url).database
    assert database is not None
    with _connected(url) as connection:
        connection.execute(_USE.format(Identifier(database)))


def set_to(url: str, now: float) -> None:
    """Set the clock."""
    with _connected(url) as connection:
        connection.execute("UPDATE testing.clock SET now = %s, set_at = pg_catalog.clock_timestamp()", [now])


def _connected(url: str) -> psycopg.Connection:
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(), autocommit=True)
