"""Errors of the database layer; a driver's own exceptions stay inside it.

Tests: ``tests/database/test_silence.py``.
"""

from __future__ import annotations


class DatabaseError(Exception):
    """The database did not do what was asked."""


class DatabaseUrlInvalid(DatabaseError):
    """No connection can be made with such parameters; the message names them without their values."""


class DatabaseUnavailable(DatabaseError):
    """It cannot be reached, does not answer, is locked by another program, or is full.

    Nothing of the transaction took effect, unless the commit was under way: then it may have, or may later.
    """


class DatabaseBusy(DatabaseUnavailable):
    """Other writers, of this or another process, have not let this one in."""


class SchemaTooNew(DatabaseError):
    """The database was written by a later release than this one."""
