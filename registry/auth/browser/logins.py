"""*Logins*: the ways to log in with a browser, and what each of them leads to."""

from __future__ import annotations

import hmac
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.auth.browser.attempt import LOST
from registry.auth.identity import Kind
from registry.auth.jwt import looks_like_jwt
from registry.auth.keys.key_secret import looks_like_key
from registry.auth.passwords.password_users import WRONG
from registry.oci.errors import Denied, NotFound, RequestInvalid, TooManyRequests, Unauthorized, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.auth.browser.attempt import Attempt, Attempts
    from registry.auth.browser.login_provider import LoginProvider, ProviderAnswer
    from registry.auth.browser.sessions import BrowserSession, BrowserSessions
    from registry.auth.credentials import Basic
    from registry.auth.identity import Identity
    from registry.auth.passwords.password_users import PasswordUsers
    from registry.auth.passwords.throttle import Throttle

EXCHANGES: Final = 4
"""Codes that are exchanged at once: each has a thread while its provider takes its time."""


class Redirection(NamedTuple):
    """Where a browser goes, and what it keeps meanwhile."""

    address: str
    sealed: str
    """The attempt, for ``Logins.finish``."""


class Entry(NamedTuple):
    """A login that succeeded."""

    secret: str
    """What the browser keeps of its session."""
    destination: str


class LeftProvider(NamedTuple):
    """A provider whose session outlives that of the registry."""

    name: str
    address: str
    """Where its user logs out there."""


class Logins:
    """``verify_password`` is for one event loop, the rest for any thread. Every method may raise DatabaseError."""

    def __init__(
        self,
        users: PasswordUsers | None,
        providers: Mapping[str, LoginProvider],
        attempts: Attempts,
        sessions: BrowserSessions,
        throttle: Throttle,
    ) -> None:
        """``users`` is None without passwords; ``throttle`` counts failures at providers for each address."""
        self._users = users
        self._providers = providers
        self._attempts = attempts
        self.sessions = sessions
        self._throttle = throttle
        self._lock = threading.Lock()
        self._exchanging = threading.BoundedSemaphore(EXCHANGES)

    @property
    def has_passwords(self) -> bool:
        """Whether users log in with a password."""
        return self._users is not None

    @property
    def providers(self) -> list[str]:
        """The names of the providers, as in the settings."""
        return list(self._providers)

    def form(self, kept: str) -> tuple[Attempt, str]:
        """The attempt of a form, with what the browser keeps of it.

        ``kept`` is what it kept of a form before, which goes on: forms of several tabs do not disturb each other.
        """
        try:
            attempt = self._attempts.read(kept)
        except RequestInvalid:
            attempt = self._attempts.begin("", "")
        return attempt, self._attempts.seal(attempt)

    def check_form(self, kept: str, token: str) -> None:
        """Return if a form was shown to the browser that sends it. Raises RequestInvalid."""
        attempt = self._attempts.read(kept)
        if attempt.provider or not _same(attempt.form_token, token):
            raise RequestInvalid(LOST)

    @staticmethod
    def check_session(session: BrowserSession, token: str) -> None:
        """Return if a form was shown in that session. Raises RequestInvalid."""
        if not _same(session.form_token, token):
            raise RequestInvalid("the form is not one of this session; load its page again")

    async def verify_password(self, credentials: Basic, address: str | None) -> Identity:
        """The user with this password. Raises Unauthorized, Unavailable, and NotFound without users."""
        if self._users is None:
            raise NotFound("users log in with no password here")
        if looks_like_key(credentials.password) or looks_like_jwt(credentials.password):
            raise Unauthorized(WRONG)  # they are for programs, and never hashed
        return await self._users.identify(credentials, address)

    def start(self, provider: str, destination: str, redirect_uri: str) -> Redirection:
        """Begin a login at a provider. Raises NotFound, Unavailable."""
        attempt = self._attempts.begin(provider, destination)
        return Redirection(self._provider(provider).address(attempt, redirect_uri), self._attempts.seal(attempt))

    def finish(
        self, kept: str, answer: ProviderAnswer, redirect_uri: str, *, address: str | None, former: str
    ) -> Entry:
        """Begin a session for what a browser has brought from the provider; ``kept`` is what it kept meanwhile.

        Raises RequestInvalid where these do not belong together or were used already, Denied, Unauthorized,
        TooManyRequests, Unavailable.
        """
        attempt = self._attempts.read(kept)
        if not attempt.provider or not _same(attempt.state, answer.state):
            raise RequestInvalid(LOST)
        provider = self._provider(attempt.provider)
        with self._lock:
            if not self._throttle.take("", address):
                raise TooManyRequests("too many logins have failed from this address; try again in some minutes")
        if not self._exchanging.acquire(blocking=False):
            self._give_back(address)
            raise Unavailable("too many logins wait for their provider; try again", headers={"Retry-After": "1"})
        try:
            identity = provider.identify(answer, attempt, redirect_uri)
        except (Denied, Unavailable):  # no guess of the client
            self._give_back(address)
            raise
        finally:
            self._exchanging.release()
        self._give_back(address)
        return Entry(self.sessions.begin(identity, attempt.mark, former), attempt.destination)

    def end(self, session: BrowserSession, secret: str) -> LeftProvider | None:
        """End a session. Returns the provider where its user is still logged in, None if that is not known of any."""
        self.sessions.end(secret)
        identity = session.identity
        provider = self._providers.get(identity.name.partition("/")[0]) if identity.kind is Kind.OIDC else None
        try:
            address = None if provider is None else provider.end_address()
        except Unavailable:
            return None
        return None if provider is None or address is None else LeftProvider(provider.name, address)

    def _give_back(self, address: str | None) -> None:
        with self._lock:
            self._throttle.give_back("", address)

    def _provider(self, name: str) -> LoginProvider:
        found = self._providers.get(name)
        if found is None:
            raise NotFound("there is no such identity provider to log in at")
        return found


def _same(one: str, other: str) -> bool:
    """Compare in a time that tells nothing."""
    return hmac.compare_digest(one.encode(), other.encode())
