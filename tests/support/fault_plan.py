"""What goes wrong, when, and how often: rules that a test adds while requests run."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.access_log import Call


@dataclass(frozen=True)
class Fail:
    """Answer ``status``, or reset the connection where it is None; ``after``: the store did it, then a reset."""

    status: int | None
    after: bool


@dataclass(frozen=True)
class Hang:
    """Never answer; ``after``: the store did it."""

    after: bool


@dataclass(frozen=True)
class Cut:
    """Reset the connection after so many bytes of the body of the request or of the response."""

    request: int | None
    response: int | None


Fault = Fail | Hang | Cut


@dataclass(frozen=True)
class Match:
    """Which requests: every condition that is not None has to hold. Paths and queries are compared decoded."""

    kind: str | None = None
    method: str | None = None
    path_contains: str | None = None
    query_contains: str | None = None

    def fits(self, kind: str, method: str, target: str) -> bool:
        """Tell whether a request is meant."""
        parts = urlsplit(target)
        return (
            self.kind in (None, kind)
            and self.method in (None, method)
            and (self.path_contains is None or self.path_contains in unquote(parts.path))
            and (self.query_contains is None or self.query_contains in unquote(parts.query))
        )


@dataclass
class Rule:
    """One fault and the requests that it meets."""

    match: Match
    fault: Fault
    times: int | None
    """How many requests it may still meet; None if all."""
    skip: int
    """How many requests that fit pass before."""
    hits: int = 0
    """How many requests it has met."""


@dataclass
class Plan:
    """The rules, oldest first, and what was seen. Safe for any thread."""

    rules: list[Rule] = field(default_factory=list)
    seen: list[Call] = field(default_factory=list)
    noticed: Callable[[int], None] | None = None
    """Told, before the client has the answer, how many requests were seen."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, rule: Rule) -> Rule:
        """Let a rule hold from the next request on."""
        with self._lock:
            self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self.rules.clear()

    def fault(self, kind: str, method: str, target: str) -> Fault | None:
        """Decide about one request: the first rule that fits, is not used up and has let enough requests pass."""
        with self._lock:
            for rule in self.rules:
                if rule.times == rule.hits or not rule.match.fits(kind, method, target):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                rule.hits += 1
                return rule.fault
        return None

    def note(self, call: Call) -> None:
        """Remember a request."""
        with self._lock:
            self.seen.append(call)
            count, noticed = len(self.seen), self.noticed
        if noticed is not None:
            noticed(count)

    def calls(self) -> list[Call]:
        """Return the requests since the last ``forget``, in the order in which they were answered."""
        with self._lock:
            return list(self.seen)

    def forget(self) -> None:
        """Forget the requests until now."""
        with self._lock:
            self.seen.clear()
