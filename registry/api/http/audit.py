"""*Audit*: what the audit log has of a request, written when the status of its answer is known.

Endpoints note what the domain has changed, the place of the decision what was refused; warm reads note nothing.

Tests: ``tests/api/test_audit.py``.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.api.access import CLAIMED, Action, caller_of
from registry.auth.credentials import Basic
from registry.auth.errors import Throttled
from registry.auth.identity import Identity, Kind
from registry.auth.jwt import looks_like_jwt
from registry.auth.keys.key_secret import KeySecret, looks_like_key
from registry.observability.audit import Event
from registry.oci.errors import Denied, QuotaExceeded, TagImmutable, TooManyRequests, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from starlette.types import Scope

    from registry.api.access import Caller
    from registry.auth.credentials import Bearer
    from registry.auth.rights import Rights
    from registry.observability.audit import AuditLog
    from registry.oci.errors import RegistryError

    FindUser = Callable[[str], Identity | None]
    """A user as it is now; None if there is none."""

TAGS_IN_A_LINE: Final = 5
"""Tags of one line: it fits into one write to a pipe."""
_NOTES: Final = "registry.audit.notes"
_END: Final = "registry.audit.end"
CHANGES: Final = frozenset(
    {Event.PUT, Event.TAG_SET, Event.TAG_MOVED, Event.UNTAG, Event.DELETE, Event.MOUNT, Event.REDIRECT}
)
"""The events that a rule has allowed."""
REFUSALS: Final = (Unauthorized, Denied, QuotaExceeded, TagImmutable, TooManyRequests)
"""Errors that are about rights, or about a login: those of many requests only where one of these was tried."""


class Note(NamedTuple):
    """A line that waits for the status of the answer."""

    event: Event
    identity: Identity | None
    """The caller's, if it is not the one of the request."""
    fields: Mapping[str, object]


class _End(NamedTuple):
    status: int
    request_id: str


class Audit:
    """``end`` is for the event loop's thread, the rest for any."""

    def __init__(self, log: AuditLog | None, rights: Rights | None, find_user: FindUser) -> None:
        """``log`` is None if there is no audit log, ``rights`` if there are no rules."""
        self._log = log
        self._rights = rights
        self._find_user = find_user

    def note(self, scope: Scope, event: Event, /, *, identity: Identity | None = None, **fields: object) -> None:
        """Note what a request has done. A request that ended before its thread did is written at once."""
        self._note(scope, Note(event, identity, fields))

    def note_put(self, scope: Scope, repository: str, digest: str, tags: Sequence[str], old: Mapping[str, str]) -> None:
        """Note a manifest that was put with ``tags``, which had the digests of ``old``."""
        if self._log is not None:
            for event, fields in events_of_put(digest, tags, old):
                self._note(scope, Note(event, None, {"repository": repository, "digest": digest, **fields}))

    def note_removal(self, scope: Scope, event: Event, repository: str, digest: str, tags: Sequence[str]) -> None:
        """Note that a manifest, or only tags of it, went."""
        if self._log is not None:
            for some in _in_lines(tags) or [[]]:
                self.note(scope, event, repository=repository, digest=digest, tags=some or None)

    def refuse(self, scope: Scope, error: RegistryError) -> None:
        """Note that an error refused the request, if that is one for the audit log.

        The first request of a client that has no credentials yet is not: its answer asks for them.
        """
        if self._log is None or not isinstance(error, REFUSALS):
            return
        action = getattr(scope.get("route"), "action", None)
        refused = {"repository": scope.get("path_params", {}).get("name"), "reason": error.message}
        if CLAIMED in scope:
            event = Event.THROTTLED if isinstance(error, (Throttled, TooManyRequests)) else Event.LOGIN_FAILED
            self.note(scope, event, **refused)
        elif isinstance(error, Unauthorized) and error.problem != "insufficient_scope":
            return
        elif not isinstance(error, TooManyRequests):
            self.note(scope, Event.DENIED, action=action, **refused)

    def end(self, scope: Scope, status: int, request_id: str) -> None:
        """Write what was noted: the request was answered with this status."""
        if self._log is not None:
            scope[_END] = _End(status, request_id)
            if _NOTES in scope:
                self._write(scope)

    def send_away(self, caller: Caller, repository: str, digest: str | None, status: int, request_id: str) -> None:
        """Write that a caller was sent to the store by an answer from memory."""
        if self._log is not None:
            self._log.add(
                Event.REDIRECT,
                who=who_of(caller.identity),
                address=caller.address,
                request_id=request_id,
                answer=status,
                rule=self._rule(caller.identity, Action.PULL, repository),
                repository=repository,
                digest=digest,
            )

    def _note(self, scope: Scope, note: Note) -> None:
        if self._log is not None:
            scope.setdefault(_NOTES, deque()).append(note)
            if _END in scope:
                self._write(scope)

    def _write(self, scope: Scope) -> None:
        notes: deque[Note] = scope[_NOTES]
        while True:
            try:
                note = notes.popleft()
            except IndexError:  # all are written, some perhaps by a thread of the request
                return
            self._add(scope, note, scope[_END])

    def _add(self, scope: Scope, note: Note, end: _End) -> None:
        if self._log is None:
            return
        caller = caller_of(scope)
        identity = note.identity or caller.identity
        is_claimed = note.event in {Event.LOGIN_FAILED, Event.THROTTLED}
        rule = None
        if note.event in CHANGES:
            rule = self._rule(identity, getattr(scope.get("route"), "action", None), note.fields.get("repository"))
        certified = caller.certified
        self._log.add(
            note.event,
            who=self._claimed(scope[CLAIMED]) if is_claimed else who_of(identity),
            address=caller.address,
            request_id=end.request_id,
            answer=end.status,
            rule=rule,
            certificate=None if certified is None or certified == identity else certified.who,
            **note.fields,
        )

    def _rule(self, identity: Identity, action: str | None, repository: object) -> int | None:
        """The number of the rule that allowed it; None if there are no rules, or none did."""
        if self._rights is None or not self._rights.has_rules or action is None or not isinstance(repository, str):
            return None
        found = self._rights.rules.find(identity, action, repository)
        return None if found is None else found.number

    def _claimed(self, credentials: Basic | Bearer | None) -> dict[str, object]:
        """What credentials that proved nothing say of their holder.

        A name that no user has is left out: it may be a password that was typed in the wrong place.
        """
        if credentials is None:
            return {"kind": "unknown"}
        secret = credentials.password if isinstance(credentials, Basic) else credentials.token
        if looks_like_key(secret):
            with contextlib.suppress(ValueError):
                return {"kind": Kind.KEY, "key": KeySecret.parse(secret).key_id}
            return {"kind": Kind.KEY}
        if not isinstance(credentials, Basic) or looks_like_jwt(secret):
            return {"kind": "token"}
        named = {"name": credentials.user} if self._find_user(credentials.user) else {}
        return {"kind": Kind.USER, **named}


def who_of(identity: Identity) -> dict[str, object]:
    """An identity, with the name that rules and the journal have for it."""
    who: dict[str, object] = {"kind": identity.kind, "name": identity.who}
    match identity.kind:
        case Kind.KEY:
            who["key"] = identity.name
            if identity.owner is not None:
                who["owner"] = identity.owner.name
        case Kind.OIDC:
            who["provider"] = identity.name.partition("/")[0]
            who["sub"] = identity.claims.get("sub", "")
    return who


def events_of_put(
    digest: str, tags: Sequence[str], old: Mapping[str, str]
) -> Iterator[tuple[Event, Mapping[str, object]]]:
    """The lines of a manifest that was put: its new tags, those that it took from another, or only that it is there."""
    new = [tag for tag in tags if tag not in old]
    moved = [tag for tag in tags if old.get(tag, digest) != digest]
    if not new and not moved:
        yield Event.PUT, {"tags": list(tags)[:TAGS_IN_A_LINE]}
    for some in _in_lines(new):
        yield Event.TAG_SET, {"tags": some}
    for some in _in_lines(moved):
        yield Event.TAG_MOVED, {"tags": some, "old": {tag: old[tag] for tag in some}}


def _in_lines(tags: Sequence[str]) -> list[list[str]]:
    return [list(tags[start : start + TAGS_IN_A_LINE]) for start in range(0, len(tags), TAGS_IN_A_LINE)]
