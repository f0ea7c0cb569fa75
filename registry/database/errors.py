"""What the database layer may raise; a driver's own exceptions stay inside it."""

from __future__ import annotations


class DatabaseError(Exception):
    """The database did not do what was asked."""


class DatabaseUnavailable(DatabaseError):
    """It cannot be reached, is locked by another program, or is full; nothing of the transaction took effect."""


class SchemaTooNew(DatabaseError):
    """The database was written by a later release than this one."""
