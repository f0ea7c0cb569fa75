"""*Audit log*: one line of JSON for each change, login that failed, refusal and token; never a secret."""

from __future__ import annotations

import enum
import os
import pwd
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from registry.observability.audit_file import AuditFile
from registry.observability.bounded import bounded
from registry.observability.line_writer import LineWriter
from registry.observability.request_line import render_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALUE_LIMIT: Final = 1500
"""Characters of one value, lists and objects included."""
LOGGER: Final = "audit"
"""The name that these lines have on stderr, among those of the log."""

_now = datetime.now


class Event(enum.StrEnum):
    """What a line is about."""

    LOGIN_FAILED = "login-failed"
    """Credentials were verified and are wrong."""
    THROTTLED = "throttled"
    """A password was not looked at: too many of its user from its address were wrong."""
    TOKEN = "token"  # noqa: S105 - the name of an event
    """A token was given."""
    DENIED = "denied"
    """A caller that is known asked for what it may not do."""
    PUT = "put"
    """A manifest was put, and no tag was set or moved."""
    TAG_SET = "tag-set"
    """Tags are new."""
    TAG_MOVED = "tag-moved"
    """Tags point at another manifest than before."""
    UNTAG = "untag"
    """A tag was removed; its manifest stays."""
    DELETE = "delete"
    """A manifest with its tags, or a blob, was removed from a repository."""
    PURGE = "purge"
    """A manifest or a blob is to go for good, from the trash too."""
    TRASH_EMPTIED = "trash-emptied"
    """What was deleted is to go before its time, of a repository or of all."""
    MOUNT = "mount"
    """A blob of another repository became one of this."""
    REDIRECT = "redirect"
    """A client was sent to the store, by an address that is good for a while."""
    KEY_CREATED = "key-created"
    KEY_REVOKED = "key-revoked"
    RULES_LOADED = "rules-loaded"
    """The rules that hold from now on, by their hash."""


class AuditLog:
    """Any thread."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """``write`` takes a whole line and must not raise."""
        self._write = write

    def add(self, event: Event, **fields: object) -> None:
        """Write a line; a field that is None is left out, and none is longer than VALUE_LIMIT."""
        given = {name: bounded(value, VALUE_LIMIT) for name, value in fields.items() if value is not None}
        self._write(render_json({"time": _now(UTC), "logger": LOGGER, "event": event, **given}))

    @property
    def dropped(self) -> int:
        """Lines that could not be written to a file since the process began."""
        return self._write.dropped if isinstance(self._write, AuditFile) else 0


def open_audit_log(
    path: Path | None, *, with_access: bool, stderr: Callable[[bytes], object] | None = None
) -> AuditLog | None:
    """The audit log of this process: to the file ``path``, or else to stderr if the registry has access rules.

    None if it is not wanted. ``stderr`` replaces the plain way to stderr. Raises OSError.
    """
    if path is not None:
        return AuditLog(AuditFile(path))
    return AuditLog(stderr or LineWriter(sys.stderr.fileno())) if with_access else None


def operator() -> dict[str, object]:
    """The identity behind a command: the account of the machine that runs it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return {"kind": "operator", "name": name}
