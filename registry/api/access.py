"""Access: which caller asks, which right its request needs, and the decision about it (I12)."""

from __future__ import annotations

import enum
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.auth.credentials import AUTHORIZATION, Bearer, credentials_of
from registry.auth.identity import ANONYMOUS, Identity
from registry.auth.rights import Verdict
from registry.oci.errors import Denied, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import Scope

    from registry.api.http.forwarding import Forwarding
    from registry.auth.authenticators import Authenticators
    from registry.auth.rights import Rights
    from registry.oci.errors import RegistryError

    RawHeaders = Iterable[tuple[bytes, bytes]]
    Decide = Callable[["Caller", "Action", str | None], RegistryError | None]
    """Decides whether a caller may do something in a repository, None where the action concerns none, or any may be
    read (a mount that names no source).

    Returns the error that refuses it (Unauthorized, Denied), or None if it is allowed.
    """

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
    LOGIN = "login"
    """Have credentials that are good, an anonymous token at the least: clients ask so whether they need any."""
    NONE = "none"
    """The endpoint is for every caller."""


_SCOPES: Final = {Action.PULL: "pull", Action.PUSH: "pull,push", Action.DELETE: "delete"}
"""The actions of a token that a client needs for the rest of what it does, not only for this request."""


class Caller(NamedTuple):
    """The client of one request, as far as the registry believes it."""

    address: str | None
    """Its address, behind trusted proxies too; None if it has none."""
    agent: str | None
    """The program, as User-Agent names it."""
    identity: Identity = ANONYMOUS
    """The identity whose rights the request has."""
    is_verified: bool = True
    """False while credentials of it were not verified: until then nothing is decided."""

    @property
    def actor(self) -> str:
        """The name under which the journal notes a change."""
        return (self.address or UNKNOWN) if self.identity.is_anonymous else self.identity.actor


class Access:
    """Makes the caller of a request, and asks for the decision. For the event loop's thread alone."""

    def __init__(
        self, forwarding: Forwarding, authenticators: Authenticators | None = None, rights: Rights | None = None
    ) -> None:
        """None of both where every caller may do everything."""
        self._forwarding = forwarding
        self._authenticators = authenticators
        self.rights = rights
        """None where no rules are configured."""
        self.decide: Decide = allow if rights is None else partial(self._decide, rights)
        """Asked before memory, routes and redirects."""

    def identify(self, peer: str | None, headers: RawHeaders, agent: str | None) -> Caller:
        """Tell whose request this is. ``headers`` have names in lower case, ``peer`` is the connection's other end.

        Credentials that were verified a moment ago count at once; with any else the caller is not verified yet.
        """
        address = self._forwarding.client(peer, headers)
        if self._authenticators is None:
            return Caller(address, agent)
        lines = [value for name, value in headers if name == AUTHORIZATION]
        if not lines:
            return Caller(address, agent)
        identity = self._authenticators.remembered(lines[0]) if len(lines) == 1 else None
        return Caller(address, agent, is_verified=False) if identity is None else Caller(address, agent, identity)

    def admit(self, scope: Scope) -> Caller:
        """Identify the caller of a request of ASGI and note it in its scope, for ``caller_of``."""
        agent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"user-agent"), None)
        peer = scope["client"][0] if scope.get("client") else None
        caller = self.identify(peer, scope["headers"], agent)
        scope[_CALLER] = caller
        return caller

    async def require(self, scope: Scope, action: Action, repository: str | None) -> None:
        """Return if the decision allows the request, whose credentials are verified first.

        Raises Unauthorized, Denied, MalformedRequest, Unavailable.
        """
        caller = caller_of(scope)
        if not caller.is_verified and action is not Action.NONE:
            try:
                caller = scope[_CALLER] = await self._verified(scope, caller)
            except Unauthorized as error:
                error.scope = scope_of(action, repository)
                raise
        refusal = self.decide(caller, action, repository)
        if refusal is not None:
            raise refusal

    async def _verified(self, scope: Scope, caller: Caller) -> Caller:
        credentials = credentials_of(scope["headers"])
        if self._authenticators is None or credentials is None:
            return caller._replace(is_verified=True)
        header = next(value for name, value in scope["headers"] if name == AUTHORIZATION)
        try:
            identity = await self._authenticators.authenticate(header, credentials, caller.address)
        except Unauthorized as error:
            error.problem = "invalid_token" if isinstance(credentials, Bearer) else ""
            raise
        return caller._replace(identity=identity, is_verified=True)

    def _decide(self, rights: Rights, caller: Caller, action: Action, repository: str | None) -> RegistryError | None:
        identity = caller.identity
        if repository is not None and rights.allows(identity, action, repository):
            return None
        verdict = _verdict(rights, identity, action, repository)
        if verdict is Verdict.ALLOWED:
            return None
        if verdict is Verdict.DENIED:
            return Denied(f"{identity.who} may not do that here: no rule allows {action}")
        error = Unauthorized()
        error.scope = scope_of(action, repository)
        error.problem = "" if identity == ANONYMOUS else "insufficient_scope"
        return error


def _verdict(rights: Rights, identity: Identity, action: Action, repository: str | None) -> Verdict:
    if action is Action.NONE:
        return Verdict.ALLOWED
    if action is Action.LOGIN:
        return Verdict.TOKEN_NEEDED if identity == ANONYMOUS else Verdict.ALLOWED
    if action is Action.CATALOG:
        return rights.decide_catalog(identity)
    if repository is None:  # a mount from anywhere: not for one that may not read everything
        return Verdict.DENIED
    return rights.decide(identity, action, repository)


def allow(_caller: Caller, _action: Action, _repository: str | None) -> None:
    """Allow every caller everything: no rules are configured."""


def scope_of(action: Action, repository: str | None) -> str:
    """What a token has to allow, as the token endpoint is asked for it; "" if nothing."""
    if action is Action.CATALOG:
        return "registry:catalog:*"
    return f"repository:{repository}:{_SCOPES[action]}" if repository is not None and action in _SCOPES else ""


def caller_of(scope: Scope) -> Caller:
    """The caller that ``Access.admit`` has noted."""
    caller: Caller = scope[_CALLER]
    return caller
