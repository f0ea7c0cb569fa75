"""Access: which caller asks, which right its request needs, and the decision about it (I12)."""

from __future__ import annotations

import enum
from functools import partial
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.api.http.fields import first_lines
from registry.api.proof import Proofs
from registry.auth.credentials import AUTHORIZATION, Bearer, credentials_of
from registry.auth.identity import ANONYMOUS, Identity
from registry.auth.rights import Verdict
from registry.oci.errors import Denied, Unauthorized
from registry.oci.name import parse_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import Scope

    from registry.api.http.forwarding import Forwarding
    from registry.auth.authenticators import Authenticators
    from registry.auth.certificates import Certificates
    from registry.auth.rights import Rights
    from registry.auth.verified import Verification
    from registry.oci.errors import RegistryError

    RawHeaders = Iterable[tuple[bytes, bytes]]
    Decide = Callable[["Caller", "Action", str | None], RegistryError | None]
    """Decides whether a caller may do something in a repository, None where the action concerns none, or any may be
    read (a mount that names no source).

    Returns the error that refuses it (Unauthorized, Denied), or None if it is allowed.
    """

UNKNOWN: Final = "unknown"
"""The actor of a change whose caller has no address, as behind a socket of Unix."""
PEER: Final = "registry.peer"
"""The key of a scope for the other end of its connection; a server that gives none knows of no certificate."""
_CALLER: Final = "registry.caller"
CLAIMED: Final = "registry.claimed"
"""The key of a scope with the credentials that were verified and are wrong, None if they are not understood."""


class Action(enum.StrEnum):
    """The right that a request needs."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"
    """See the names of repositories."""
    LOGIN = "login"
    """Have credentials that are good, an anonymous token at the least: clients ask so whether they need any."""
    IDENTITY = "identity"
    """Be known: have credentials that are good and not those of an anonymous token."""
    METRICS = "metrics"
    """Read metrics that are protected: be an identity that is none of a stranger."""
    NONE = "none"
    """The endpoint is for every caller."""


_SCOPES: Final = {Action.PULL: "pull", Action.PUSH: "pull,push", Action.DELETE: "delete"}
"""The actions of a token that a client needs for the rest of what it does, not only for this request."""


class Peer:
    """The other end of a connection."""

    __slots__ = ("address", "certified", "proofs")

    def __init__(self, address: str | None, certified: Identity | None = None) -> None:
        self.address = address
        """None if it has none, as behind a socket of Unix."""
        self.certified = certified
        """The identity that its certificate names; None if there is none."""
        self.proofs = Proofs()


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
    certified: Identity | None = None
    """The identity that a certificate names, also where other credentials count in its place; None if none does."""

    @property
    def actor(self) -> str:
        """The name under which the journal notes a change."""
        return (self.address or UNKNOWN) if self.identity.is_anonymous else self.identity.actor

    @property
    def account(self) -> str | None:
        """The identity by its name as an actor; None if the client has said none."""
        return None if self.identity.is_anonymous else self.identity.actor

    @property
    def actor_address(self) -> str | None:
        """The address that the journal notes beside the actor; None where the actor is the address."""
        return None if self.identity.is_anonymous else self.address


class Access:
    """Makes the caller of a request, and asks for the decision. For the event loop's thread alone."""

    def __init__(
        self,
        forwarding: Forwarding,
        authenticators: Authenticators | None = None,
        rights: Rights | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """None of them where every caller may do everything; ``certificates`` only where they name identities."""
        self._forwarding = forwarding
        self._authenticators = authenticators
        self._certificates = certificates
        self.rights = rights
        """None where no rules are configured."""
        self.decide: Decide = allow if rights is None else partial(self._decide, rights)
        """Asked before memory, routes and redirects."""

    def peer(self, address: str | None, certificate: bytes | None) -> Peer:
        """The other end of a new connection; its certificate in DER passed the handshake, None if it showed none."""
        if self._certificates is None or certificate is None:
            return Peer(address)
        return Peer(address, self._certificates.of_connection(certificate))

    def address_of(self, peer: Peer, headers: RawHeaders) -> str | None:
        """The address of the client of a request, behind trusted proxies too; None if it has none."""
        return self._forwarding.client(peer.address, headers)

    def identify(self, peer: Peer, headers: RawHeaders, agent: str | None) -> Caller:
        """Tell whose request this is. ``headers`` have names in lower case.

        Credentials that were verified a moment ago count at once; with any else the caller is not verified yet.
        Without any, a certificate counts.
        """
        address = self._forwarding.client(peer.address, headers)
        if self._authenticators is None:
            return Caller(address, agent)
        certified = None if self._certificates is None else self._certified(self._certificates, peer, headers)
        lines = [value for name, value in headers if name == AUTHORIZATION]
        if not lines:
            return Caller(address, agent, certified or ANONYMOUS, certified=certified)
        found = self._remembered(self._authenticators, peer, lines[0]) if len(lines) == 1 else None
        if found is None:
            return Caller(address, agent, is_verified=False, certified=certified)
        return Caller(address, agent, found.identity, certified=certified)

    def identify_reader(
        self, peer: Peer, headers: RawHeaders, header: bytes, agent: str | None, repository: str
    ) -> Caller | None:
        """The caller of a read, if it may pull from the repository; None where the routes have to tell.

        ``header`` is the value of the only Authorization header; empty if there is none, or there are several.
        """
        proof = peer.proofs.find(header)
        if (
            proof is not None
            and self._authenticators is not None
            and self.rights is not None
            and self._certificates is None
            and proof.may_pull(repository, self.rights.revision)
            and self._authenticators.holds(proof.verification)
        ):
            return Caller(self._forwarding.client(peer.address, headers), agent, proof.verification.identity)
        caller = self.identify(peer, headers, agent)
        if not caller.is_verified or self.decide(caller, Action.PULL, repository) is not None:
            return None
        proof = peer.proofs.find(header)
        if proof is not None and self.rights is not None:
            proof.allow_pull(repository, self.rights.revision)
        return caller

    def admit(self, scope: Scope) -> Caller:
        """Identify the caller of a request of ASGI and note it in its scope, for ``caller_of``."""
        agent = first_lines(scope).get(b"user-agent")
        caller = self.identify(peer_of(scope), scope["headers"], None if agent is None else agent.decode("latin-1"))
        scope[_CALLER] = caller
        return caller

    def may(self, caller: Caller, action: Action, repository: str) -> bool:
        """Whether ``decide`` refuses nothing, for what only follows from it: no refusal is made."""
        return self.rights is None or self.rights.allows(caller.identity, action, repository)

    async def verify(self, scope: Scope, action: Action, repository: str | None) -> None:
        """Verify the credentials of a caller that is not verified yet.

        What is no name of a repository costs neither a look at credentials nor one at rules, which remember names.

        Raises NameInvalid, Unauthorized, which names the scope of a token that the request needs, MalformedRequest,
        Unavailable.
        """
        if repository is not None:
            parse_name(repository)
        try:
            scope[_CALLER] = await self._verified(scope, caller_of(scope))
        except Unauthorized as error:
            error.scope = scope_of(action, repository)
            raise

    def require(self, scope: Scope, action: Action, repository: str | None) -> None:
        """Return if the decision allows the request. Raises NameInvalid, Unauthorized, Denied."""
        if repository is not None:
            parse_name(repository)
        refusal = self.decide(caller_of(scope), action, repository)
        if refusal is not None:
            raise refusal

    def _remembered(self, authenticators: Authenticators, peer: Peer, header: bytes) -> Verification | None:
        """What a header has proved, on this connection or on another."""
        proof = peer.proofs.find(header)
        if proof is not None and authenticators.holds(proof.verification):
            return proof.verification
        found = authenticators.remembered(header)
        if found is not None:
            peer.proofs.note(header, found)
        return found

    async def _verified(self, scope: Scope, caller: Caller) -> Caller:
        try:
            credentials = credentials_of(scope["headers"])
        except Unauthorized:
            scope[CLAIMED] = None
            raise
        if self._authenticators is None or credentials is None:
            return caller._replace(identity=caller.certified or ANONYMOUS, is_verified=True)
        header = next(value for name, value in scope["headers"] if name == AUTHORIZATION)
        try:
            identity = await self._authenticators.authenticate(header, credentials, caller.address)
        except Unauthorized as error:
            scope[CLAIMED] = credentials
            error.problem = "invalid_token" if isinstance(credentials, Bearer) else ""
            raise
        return caller._replace(identity=identity, is_verified=True)

    def _certified(self, certificates: Certificates, peer: Peer, headers: RawHeaders) -> Identity | None:
        """The identity of the client's certificate.

        A trusted proxy that passes certificates on speaks for its clients: its own certificate is none of theirs.
        """
        if certificates.header is not None and self._forwarding.believes(peer.address):
            found = certificates.of_headers(headers)
        else:
            found = peer.certified
        return None if found is None or found.until <= time() else found

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
        error.problem = "" if identity.has_no_credential else "insufficient_scope"
        return error


def _verdict(rights: Rights, identity: Identity, action: Action, repository: str | None) -> Verdict:
    if action is Action.NONE:
        return Verdict.ALLOWED
    if action is Action.LOGIN:
        return Verdict.TOKEN_NEEDED if identity.has_no_credential else Verdict.ALLOWED
    if action is Action.IDENTITY:
        return Verdict.TOKEN_NEEDED if identity.is_anonymous else Verdict.ALLOWED
    if action in {Action.CATALOG, Action.METRICS}:
        return rights.decide_catalog(identity) if action is Action.CATALOG else rights.decide_metrics(identity)
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


def peer_of(scope: Scope) -> Peer:
    """The other end of the connection of a request."""
    found: Peer | None = scope.get(PEER)
    return Peer(scope["client"][0] if scope.get("client") else None) if found is None else found


def caller_of(scope: Scope) -> Caller:
    """The caller that ``Access.admit`` has noted."""
    caller: Caller = scope[_CALLER]
    return caller


def act_as(scope: Scope, identity: Identity) -> None:
    """Have a request decided for an identity that something else than its credentials proves."""
    scope[_CALLER] = caller_of(scope)._replace(identity=identity)
