"""*External tokens*: those of a token service that is not ours, verified with keys from a file.

The service decides what a token allows; the rules, if there are any, decide beside it.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from registry.auth.identity import Identity, Kind
from registry.auth.jwt import Jwt, JwtInvalid
from registry.auth.key_source import verify
from registry.auth.tokens.bearer import Verified
from registry.auth.tokens.token import TokenBound, access_of, text_of
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.auth.key_source import KeySource


class ExternalTokens:
    """Verifies the tokens of one service (distribution, "Token Authentication Implementation"). Any thread."""

    def __init__(self, keys: KeySource, *, issuer: str, service: str, clock: Callable[[], float] = time) -> None:
        """``service`` is the audience that they must name."""
        self._keys = keys
        self.issuer = issuer
        self._service = service
        self._clock = clock

    def identify(self, text: str) -> Verified:
        """The identity of a token, bounded by its access. Raises Unauthorized."""
        try:
            token = Jwt.parse(text)
            verify(token, self._keys, issuer=self.issuer, audiences=(self._service,), now=self._clock())
            bound = TokenBound(access_of(token.claims))
            subject = text_of(token.claims, "sub") if token.claims.get("sub") else ""
        except (JwtInvalid, KeyError, TypeError) as error:
            raise Unauthorized(f"the token is refused: {error}") from error
        return Verified(Identity(Kind.EXTERNAL, subject, scope=bound), token.expires)
