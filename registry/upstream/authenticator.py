"""*Authenticator*: what a mirror shows its upstream, and what it does when that is not enough."""

from __future__ import annotations

import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from cachetools import LRUCache

from registry.upstream.challenge import Challenge, parse_challenges
from registry.upstream.errors import AnswerInvalid, TokenUnavailable, UpstreamDenied
from registry.upstream.realm import takes_credentials
from registry.upstream.token_service import ask_for_token
from registry.upstream.tokens import TokenKey
from registry.upstream.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from registry.observability.metrics.upstream_metrics import UpstreamMetrics
    from registry.upstream.credentials.credential import Credential, Credentials
    from registry.upstream.renewal import Held
    from registry.upstream.token_service import Follow
    from registry.upstream.tokens import TokenCache
    from registry.upstream.url import Origin, Url

REMEMBERED: Final = 10_000
"""Scopes whose challenge is known, so that a request need not be refused first."""


class Permit(NamedTuple):
    """What one request shows. Its text has no secret."""

    header: str
    """The value of Authorization."""
    credential: Credential | None
    token: Held[str] | None = None
    key: TokenKey | None = None

    def __repr__(self) -> str:
        return "Permit(...)"


class Authenticator:
    """The logins of one mirror. Any thread."""

    def __init__(
        self,
        mirror: str,
        credentials: Credentials,
        token_hosts: Collection[str],
        tokens: TokenCache,
        follow: Follow,
        metrics: UpstreamMetrics | None = None,
    ) -> None:
        """``follow`` sends a request to a realm. ``tokens`` may be shared with other mirrors."""
        self._mirror = mirror
        self._credentials = credentials
        self._token_hosts = token_hosts
        self._tokens = tokens
        self._follow = follow
        self._metrics = metrics
        self._lock = threading.Lock()
        self._known: LRUCache[tuple[Origin, str], Challenge] = LRUCache(REMEMBERED)

    def permit(self, origin: Origin, scope: str, deadline: float) -> Permit | None:
        """What a request with this scope shows an own origin; None while that has not asked for anything.

        ``deadline`` is of ``monotonic``, as all times here.
        Raises TokenUnavailable, UpstreamDenied, AddressRefused, AnswerInvalid.
        """
        with self._lock:
            challenge = self._known.get((origin, scope))
        return None if challenge is None else self._answer(challenge, origin, scope, deadline)

    def renewed(
        self, origin: Origin, scope: str, lines: Iterable[str], refused: Permit | None, *, began: float, deadline: float
    ) -> Permit:
        """What a request shows that was answered 401 with these WWW-Authenticate headers.

        ``refused`` is what it showed, and ``began`` when it began: a token that is newer is not got again.
        Raises UpstreamDenied where nothing else can be shown, TokenUnavailable, AddressRefused, AnswerInvalid.
        """
        challenge = _chosen(parse_challenges(lines), origin)
        with self._lock:
            self._known[origin, scope] = challenge
        if refused is not None:
            self._reject(challenge, origin, scope, refused, began)
        return self._answer(challenge, origin, scope, deadline)

    def _reject(self, challenge: Challenge, origin: Origin, scope: str, refused: Permit, began: float) -> None:
        if refused.token is not None and refused.key is not None:
            if (
                challenge.scheme != "bearer"
                or self._key(challenge, origin, scope, refused.credential)[1] != refused.key
            ):
                return  # it asks for another one
            if refused.token.begun >= began:
                raise UpstreamDenied(f"{origin.host} refuses a new token")
            self._tokens.reject(refused.key, refused.token)
        elif (
            challenge.scheme == "basic"
            and refused.credential is not None
            and not self._credentials.reject(refused.credential)
        ):
            raise TokenUnavailable(f"{origin.host} refuses the credentials")

    def _answer(self, challenge: Challenge, origin: Origin, scope: str, deadline: float) -> Permit:
        credential = self._credentials.get(origin)
        if challenge.scheme == "basic":
            if credential is None:
                raise UpstreamDenied(f"{origin.host} asks for credentials, and the mirror has none for it")
            return Permit(credential.basic, credential)
        realm, key = self._key(challenge, origin, scope, credential)
        if credential is not None and not takes_credentials(realm.origin, origin, self._token_hosts):
            reason = "is not trusted with the credentials of this mirror: name it in token_hosts if it should be"
            raise TokenUnavailable(f"the token service {realm.origin} of {origin.host} {reason}")
        held = self._tokens.get(key, partial(self._ask, realm, key, credential), deadline - monotonic())
        return Permit(f"Bearer {held.value}", credential, held, key)

    def _key(
        self, challenge: Challenge, origin: Origin, scope: str, credential: Credential | None
    ) -> tuple[Url, TokenKey]:
        try:
            realm = parse_url(challenge.parameters.get("realm", ""))
        except ValueError as error:
            raise AnswerInvalid(f"{origin.host} names no token service that can be used: {error}") from None
        service = challenge.parameters.get("service", "")
        wanted = challenge.parameters.get("scope") or scope
        fingerprint = credential.fingerprint if credential is not None else b""
        return realm, TokenKey(self._mirror, str(realm), service, wanted, fingerprint)

    def _ask(self, realm: Url, key: TokenKey, credential: Credential | None, seconds: float) -> tuple[str, float]:
        result = "error"
        try:
            given = ask_for_token(self._follow, realm, key, credential, seconds)
        except UpstreamDenied:
            result = "refused"
            raise
        else:
            result = "given"
            return given
        finally:
            if self._metrics is not None:
                self._metrics.add_login(self._mirror, result)


def _chosen(challenges: Iterable[Challenge], origin: Origin) -> Challenge:
    """The challenge that a mirror can answer: a token rather than a password."""
    known = {challenge.scheme: challenge for challenge in reversed(list(challenges))}
    for scheme in ("bearer", "basic"):
        if scheme in known:
            return known[scheme]
    raise UpstreamDenied(
        f"{origin.host} wants neither a token nor a password: {', '.join(known) or 'it does not say what'}"
    )
