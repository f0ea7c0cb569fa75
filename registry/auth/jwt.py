"""*JWT*: a signed token of JSON in its compact form (RFC 7519, RFC 7515), read and verified.

What its header says of keys (``jwk``, ``jku``, ``x5c``, ``x5u``) is never followed, and its algorithm has to be one of
the key's own: the key decides, not the token.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from registry.oci import strict_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from registry.auth.key_set import KeySet

MAX_CHARACTERS: Final = 16 << 10
"""A token has no more; a longer one is refused unread."""
LEEWAY: Final = 60.0
"""Seconds by which the clocks of issuer and registry may differ."""
_FORM = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
"""Its header is an object of JSON, so that every token begins with the same letters."""


class JwtInvalid(ValueError):
    """The token is refused; the message says why, without any part of the token but names of claims."""


class KeyUnknown(JwtInvalid):
    """The token may be good, but was signed with a key that is not known."""


class Jwt(NamedTuple):
    """A token as it was read. Nothing that it says is true before ``verify`` returns."""

    text: str
    algorithm: str
    key_id: str | None
    """The ``kid`` of its header; None if it names none."""
    claims: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises JwtInvalid."""
        if not looks_like_jwt(text) or len(text) > MAX_CHARACTERS:
            raise JwtInvalid("it is no JWT of a size that is read")
        head, payload, _ = text.split(".")
        header, claims = _object(head), _object(payload)
        # A critical extension has to be understood (RFC 7515, 4.1.11), and we understand none; b64 is one of them.
        if "crit" in header or "b64" in header:
            raise JwtInvalid("its header has an extension that is not supported")
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not isinstance(key_id, str | None):
            raise JwtInvalid("alg or kid in its header is no string")
        return cls(text, algorithm, key_id, claims)

    def verify(self, keys: KeySet, *, issuer: str, audiences: Collection[str], now: float) -> None:
        """Return if one of ``keys`` signed it for one of ``audiences``, and it is valid at ``now``.

        Raises KeyUnknown, JwtInvalid.
        """
        key = keys.find(self.key_id, self.algorithm)
        if key is None:
            raise KeyUnknown(f"no known key has its kid and the algorithm {self.algorithm[:20]!a}")
        signed, _, signature = self.text.rpartition(".")
        try:
            model = JWSRegistry.algorithms[self.algorithm]
            model.check_key(key)
            is_genuine = model.verify(signed.encode(), urlsafe_b64decode(signature.encode()), key)
        except (JoseError, ValueError) as error:
            raise JwtInvalid("its signature cannot be checked") from error
        if not is_genuine:
            raise JwtInvalid("its signature is wrong")
        self._check(issuer, audiences, now)

    @property
    def expires(self) -> float:
        """When it ends, in seconds since the epoch. Raises JwtInvalid if it never does."""
        moment = self._moment("exp")
        if moment is None:
            raise JwtInvalid("it has no exp")
        return moment

    def _check(self, issuer: str, audiences: Collection[str], now: float) -> None:
        if self.claims.get("iss") != issuer:
            raise JwtInvalid("iss is another issuer")
        named = self.claims.get("aud")
        named = named if isinstance(named, list) else [named]
        if not any(isinstance(audience, str) and audience in audiences for audience in named):
            raise JwtInvalid("aud names no audience of ours")
        if self.expires + LEEWAY <= now:
            raise JwtInvalid("it has expired")
        for name in ("nbf", "iat"):
            moment = self._moment(name)
            if moment is not None and moment - LEEWAY > now:
                raise JwtInvalid(f"{name} is in the future")

    def _moment(self, name: str) -> float | None:
        moment = self.claims.get(name)
        if moment is None:
            return None
        if not isinstance(moment, int | float) or isinstance(moment, bool) or not math.isfinite(moment):
            raise JwtInvalid(f"{name} is no moment")
        return float(moment)


def looks_like_jwt(text: str) -> bool:
    """Whether ``text``, a password perhaps, has the form of one."""
    return _FORM.fullmatch(text) is not None


def _object(part: str) -> dict[str, Any]:
    try:
        found = strict_json.loads(urlsafe_b64decode(part.encode()))
    except ValueError as error:  # of base64 and of JSON
        raise JwtInvalid("it is no base64url of strict JSON") from error
    if not isinstance(found, dict):
        raise JwtInvalid("it is no object of JSON")
    return found
