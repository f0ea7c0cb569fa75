"""*Attempt*: a login that a browser has begun. The browser keeps it in a cookie: logins of strangers fill nothing here.

The cookie has one random secret, and all that a login needs is derived from it: what is in the address of the provider
(state, nonce, challenge) tells nothing of the rest, so that neither a code nor a state is of use in another browser.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.auth.jwt import Jwt, JwtInvalid
from registry.auth.key_source import verify
from registry.auth.tokens.token import sign, text_of
from registry.oci.errors import RequestInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.auth.tokens.signing_keys import SigningKeys

SECONDS: Final = 600
"""How long a login may take."""
AUDIENCE: Final = "/auth/login"
"""Behind the name of the service: no token of the registry has it."""
RANDOM_BYTES: Final = 32
LOST: Final = "this login was begun in another browser, or too long ago; begin it again"


class Attempt(NamedTuple):
    """A login that was begun."""

    secret: str
    provider: str
    """Empty for a login with a password."""
    destination: str
    """Where the browser goes afterwards: see ``check_destination``."""

    @property
    def state(self) -> str:
        """What the provider's answer has to have (RFC 6749, section 10.12)."""
        return derived(self.secret, "state")

    @property
    def nonce(self) -> str:
        """What the ID token has to have."""
        return derived(self.secret, "nonce")

    @property
    def verifier(self) -> str:
        """What proves that the code is exchanged by the party that asked for it (RFC 7636)."""
        return derived(self.secret, "verifier")

    @property
    def challenge(self) -> str:
        """What the provider is told of the verifier (S256)."""
        return _encoded(self.verifier)

    @property
    def form_token(self) -> str:
        """What a form has to have that was shown for this attempt."""
        return derived(self.secret, "form")

    @property
    def mark(self) -> str:
        """A name of the attempt that tells nothing of its secret."""
        return derived(self.secret, "mark")


class Attempts:
    """Makes and reads what a browser keeps. Any thread, any process with the same keys."""

    def __init__(self, keys: SigningKeys, service: str, clock: Callable[[], float] = time) -> None:
        """``service`` is the name of the registry."""
        self._keys = keys
        self._service = service
        self._clock = clock

    def begin(self, provider: str, destination: str) -> Attempt:
        """A new one."""
        return Attempt(secrets.token_urlsafe(RANDOM_BYTES), provider, destination)

    def seal(self, attempt: Attempt) -> str:
        """The attempt as text, good for SECONDS. Raises DatabaseError."""
        now = int(self._clock())
        claims = {
            "iss": self._service,
            "aud": self._service + AUDIENCE,
            "exp": now + SECONDS,
            "iat": now,
            "secret": attempt.secret,
            "provider": attempt.provider,
            "next": attempt.destination,
        }
        return sign(self._keys, claims)

    def read(self, text: str) -> Attempt:
        """The attempt that was sealed. Raises RequestInvalid, also for one that is too old; DatabaseError."""
        try:
            token = Jwt.parse(text)
            audiences = (self._service + AUDIENCE,)
            verify(token, self._keys, issuer=self._service, audiences=audiences, now=self._clock())
            claims = token.claims
            return Attempt(text_of(claims, "secret"), text_of(claims, "provider"), text_of(claims, "next"))
        except (JwtInvalid, KeyError, TypeError) as error:
            raise RequestInvalid(LOST) from error


def derived(secret: str, purpose: str) -> str:
    """A text for one purpose: the secret, and those for other purposes, cannot be told from it."""
    return _encoded(f"{purpose} {secret}")


def _encoded(text: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
