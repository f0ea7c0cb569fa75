"""*Authenticators*: from credentials to an identity, whatever kind they are.

A password that looks like a key is one, and one that looks like a JWT is a token of an identity provider: neither is
ever hashed as a password.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol, TypeVar

from registry.auth.credentials import Basic
from registry.auth.identity import ANONYMOUS
from registry.auth.jwt import looks_like_jwt
from registry.auth.keys.key_secret import looks_like_key
from registry.auth.passwords.password_users import WRONG
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from registry.auth.credentials import Bearer
    from registry.auth.identity import Identity
    from registry.auth.issuers import Issuers
    from registry.auth.keys.api_keys import ApiKeys
    from registry.auth.passwords.password_users import PasswordUsers
    from registry.auth.tokens.bearer import Verified
    from registry.auth.verified import Currency, Verification, VerifiedCredentials

T = TypeVar("T")


class Run(Protocol):
    """Runs a call in a thread."""

    def __call__(self, function: Callable[[str], T], text: str, /) -> Awaitable[T]:
        """What it returns or raises."""
        ...


class Authenticators:
    """For one event loop."""

    def __init__(
        self,
        users: PasswordUsers | None,
        keys: ApiKeys | None,
        issuers: Issuers,
        currency: Currency,
        verified: VerifiedCredentials,
        run: Run,
    ) -> None:
        """None for what is not configured."""
        self._users = users
        self._keys = keys
        self._issuers = issuers
        self._currency = currency
        self._verified = verified
        self._run = run

    def forget_tokens(self) -> None:
        """Have tokens verified anew; passwords and keys stay, so that none is hashed again."""
        self._verified.forget_tokens()

    def remembered(self, header: bytes) -> Verification | None:
        """What the value of an Authorization header has proved; None if it has to be verified. Does not wait."""
        return self._verified.find(self._verified.key(header))

    def holds(self, verification: Verification) -> bool:
        """Whether what was ``remembered`` a moment ago is still good. Does not wait."""
        return self._verified.holds(verification)

    async def authenticate(self, header: bytes, credentials: Basic | Bearer | None, address: str | None) -> Identity:
        """The identity of a request with this header, which has these credentials.

        Raises Unauthorized where they are wrong; Unavailable, StorageError, DatabaseError where that is not known.
        """
        if credentials is None:
            return ANONYMOUS
        return await self._remember(self._verified.key(header), credentials, address)

    def has_room(self, credentials: Basic, address: str | None) -> bool:
        """Whether ``of_password`` would answer more than Unavailable because too many passwords wait. Does not wait."""
        if self._users is None or self._users.has_room(credentials, address) or _is_no_password(credentials.password):
            return True
        return self._verified.find(self._key_of(credentials)) is not None

    async def of_password(self, credentials: Basic, address: str | None) -> Identity:
        """As ``authenticate``, for a user with a password that came in any other way."""
        key = self._key_of(credentials)
        found = self._verified.find(key)
        return found.identity if found is not None else await self._remember(key, credentials, address)

    def _key_of(self, credentials: Basic) -> bytes:
        return self._verified.key(credentials.user.encode(), credentials.password.encode())

    async def _remember(self, key: bytes, credentials: Basic | Bearer, address: str | None) -> Identity:
        generation, epoch = self._currency.generation, self._verified.epoch
        identity, until = await self._verify(credentials, address)
        secret = _secret_of(credentials)
        if not looks_like_jwt(secret):
            self._verified.add(key, identity, until, generation)
        elif epoch == self._verified.epoch:
            self._verified.add_token(key, identity, until, generation, len(secret))
        return identity

    async def _verify(self, credentials: Basic | Bearer, address: str | None) -> tuple[Identity, float]:
        secret = _secret_of(credentials)
        if looks_like_key(secret):
            return await self._of_key(secret, address)
        if not isinstance(credentials, Basic):
            return await self._run(self._issuers.of_bearer, secret)
        if looks_like_jwt(secret):
            return await self._run(self._issuers.of_provider, secret)
        if self._users is None:
            raise Unauthorized(WRONG)
        return await self._users.identify(credentials, address), inf

    async def _of_key(self, secret: str, address: str | None) -> Verified:
        if self._keys is None:
            raise Unauthorized("API keys are not in use here")
        self._keys.admit(secret, address)
        return await self._run(self._keys.identify, secret)


def _is_no_password(secret: str) -> bool:
    """Whether it is a key or a token, which is never hashed as a password."""
    return looks_like_key(secret) or looks_like_jwt(secret)


def _secret_of(credentials: Basic | Bearer) -> str:
    return credentials.password if isinstance(credentials, Basic) else credentials.token
