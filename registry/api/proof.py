"""*Proof*: what the credentials of a connection's last request proved, and where rules let their identity pull.

A client sends the same header with every request of a connection. As long as it does, and what it proved still holds,
a read needs neither the keyed hash that finds verified credentials nor a decision for each request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from registry.auth.verified import Verification

MAX_HEADER: Final = 2048
"""Bytes of a header that a connection keeps, which bounds what it proved as well; a longer one is found by its hash."""
MAX_PULLS: Final = 16
"""Repositories that one connection keeps a decision for; beyond, it begins anew."""


class Proof:
    """One verification. For the event loop's thread alone."""

    __slots__ = ("_pulls", "_revision", "verification")

    def __init__(self, verification: Verification) -> None:
        self.verification = verification
        self._pulls: set[str] = set()
        self._revision = -1
        """That of the rules by which ``_pulls`` was decided."""

    def may_pull(self, repository: str, revision: int) -> bool:
        """Whether the rules of this revision were asked before and let it pull; False says nothing."""
        return repository in self._pulls and revision == self._revision

    def allow_pull(self, repository: str, revision: int) -> None:
        """Keep that the rules of this revision let it pull from a repository."""
        if revision != self._revision or len(self._pulls) >= MAX_PULLS:
            self._revision, self._pulls = revision, set()
        self._pulls.add(repository)


class Proofs:
    """Those of one connection: of the last credentials that were good. For the event loop's thread alone."""

    __slots__ = ("_known", "find")

    def __init__(self) -> None:
        self._known: dict[bytes, Proof] = {}
        """At most one: a dictionary compares hashes first, whose key no client has, so that its time tells nothing."""
        self.find = self._known.get
        """The proof for the value of an Authorization header, which may not hold any more; None if there is none."""

    def note(self, header: bytes, verification: Verification) -> None:
        """Keep what a header proved in place of what came before it. An empty one is none."""
        self._known.clear()
        if 0 < len(header) <= MAX_HEADER:
            self._known[header] = Proof(verification)
