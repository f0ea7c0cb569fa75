"""Access: which caller asks, which right its request needs, and the decision about it (I12)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import Scope

    from registry.api.http.forwarding import Forwarding
    from registry.oci.errors import RegistryError

    RawHeaders = Iterable[tuple[bytes, bytes]]
    Decide = Callable[["Caller", "Action", str | None], RegistryError | None]
    """Decides whether a caller may do something in a repository, None where the action concerns none, or any may be
    read (a mount that names no source).

    Returns the error that refuses it (Unauthorized, Denied), or None if it is allowed.
    """

ANONYMOUS: Final = "anonymous"
"""The principal of a request without credentials."""
UNKNOWN: Final = "unknown"
"""The actor of a change whose caller has no address, as behind a socket of Unix."""
_CALLER: Final = "registry.caller"


class Action(enum.StrEnum):
    """The right that a request needs."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"
    """See the names of repositories."""
    NONE = "none"
    """The endpoint is for every caller."""


class Caller(NamedTuple):
    """The client of one request, as far as the registry believes it."""

    address: str | None
    """Its address, behind trusted proxies too; None if it has none."""
    agent: str | None
    """The program, as User-Agent names it."""
    principal: str = ANONYMOUS
    """The identity whose rights the request has."""

    @property
    def actor(self) -> str:
        """The name under which the journal notes a change."""
        return (self.address or UNKNOWN) if self.principal == ANONYMOUS else self.principal


class Access:
    """Makes the caller of a request, and asks for the decision. For the event loop's thread alone."""

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding
        self.decide: Decide = allow
        """Asked before memory, routes and redirects."""

    def identify(self, peer: str | None, headers: RawHeaders, agent: str | None) -> Caller:
        """Tell whose request this is. ``headers`` have names in lower case, ``peer`` is the connection's other end."""
        return Caller(self._forwarding.client(peer, headers), agent)

    def admit(self, scope: Scope) -> Caller:
        """Identify the caller of a request of ASGI and note it in its scope, for ``caller_of``."""
        agent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"user-agent"), None)
        peer = scope["client"][0] if scope.get("client") else None
        caller = self.identify(peer, scope["headers"], agent)
        scope[_CALLER] = caller
        return caller

    def require(self, caller: Caller, action: Action, repository: str | None) -> None:
        """Return if the decision allows it. Raises Unauthorized, Denied."""
        refusal = self.decide(caller, action, repository)
        if refusal is not None:
            raise refusal


def allow(_caller: Caller, _action: Action, _repository: str | None) -> None:
    """Allow every caller everything: no rules are configured."""


def caller_of(scope: Scope) -> Caller:
    """The caller that ``Access.admit`` has noted."""
    caller: Caller = scope[_CALLER]
    return caller
