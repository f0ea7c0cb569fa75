"""*Key set*: the keys that verify tokens of one issuer, each with the algorithms that it is for.

A key decides about its algorithms: a public key of RSA never verifies an HMAC, and a secret never stands in a set that
another party publishes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from registry.oci import strict_json

if TYPE_CHECKING:
    from collections.abc import Iterable

LEAST_SECRET: Final = 32
"""Bytes of a secret: as many as the hash has (RFC 7518, section 3.2)."""
LEAST_RSA: Final = 2048
"""Bits of a key of RSA (RFC 7518, section 3.3)."""
MOST_KEYS: Final = 100
_PUBLIC: Final = (RSAKey, ECKey, OKPKey)
_BY_CURVE: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("EdDSA", "Ed25519")}
_RSA: Final[tuple[str, ...]] = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)


class KeySetInvalid(ValueError):
    """A document has no usable key; the message says why, and has no part of a key."""


class VerificationKey(NamedTuple):
    """One key."""

    key_id: str
    algorithms: tuple[str, ...]
    key: Key


class KeySet:
    """Immutable; any thread."""

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        self._keys = tuple(keys)

    def find(self, key_id: str | None, algorithm: str) -> Key | None:
        """The key of that name for that algorithm; None if there is none.

        A token that names no key is checked with the only one that its algorithm fits, if it is the only one.
        """
        fitting = [
            found.key for found in self._keys if algorithm in found.algorithms and key_id in {None, found.key_id}
        ]
        return fitting[0] if len(fitting) == 1 or (fitting and key_id is not None) else None


def of_jwks(document: bytes) -> KeySet:
    """The public keys for signatures of a JWK set (RFC 7517).

    What is not understood is left out (section 5), and so is what must not be used: secrets, short keys, keys for
    encryption. Raises KeySetInvalid if nothing is left.
    """
    try:
        keys = strict_json.loads(document)["keys"]
    except (ValueError, KeyError, TypeError) as error:
        raise KeySetInvalid("it is no JWK set") from error
    if not isinstance(keys, list) or len(keys) > MOST_KEYS:
        raise KeySetInvalid(f"keys is no list of at most {MOST_KEYS} keys")
    found = [usable for key in keys if isinstance(key, dict) and (usable := _of_jwk(key)) is not None]
    if not found:
        raise KeySetInvalid("it has no key for signatures that is supported")
    return KeySet(found)


def of_pem(document: bytes) -> KeySet:
    """The public keys or certificates of a PEM file. Raises KeySetInvalid if there is none, or one is not supported."""
    keys = [_public(block) for block in _PEM.findall(document)]
    if not keys:
        raise KeySetInvalid("it has no block of PEM")
    return KeySet(keys)


def is_pem(document: bytes) -> bool:
    """Whether it has a block of PEM."""
    return _PEM.search(document) is not None


def of_private_pem(document: bytes) -> list[VerificationKey]:
    """The private keys, EC or Ed25519, of a PEM file: for signing.

    Raises KeySetInvalid if there is none, or anything else.
    """
    keys = [_private(block) for block in _PEM.findall(document)]
    if not keys:
        raise KeySetInvalid("it has no block of PEM")
    return keys


def of_secret(key_id: str, secret: bytes) -> VerificationKey:
    """A secret for HS256. Raises KeySetInvalid for a short one."""
    if len(secret) < LEAST_SECRET:
        raise KeySetInvalid(f"it has fewer than {LEAST_SECRET} bytes")
    try:
        return VerificationKey(key_id, ("HS256",), OctKey.import_key(secret))
    except ValueError as error:  # what is public elsewhere is no secret
        raise KeySetInvalid("it is a public key, which is no secret") from error


def _of_jwk(document: dict[str, Any]) -> VerificationKey | None:
    """Return a key of a set, None if it is not for us."""
    kind = next((kind for kind in _PUBLIC if kind.key_type == document.get("kty")), None)
    if kind is None or document.get("use", "sig") != "sig":
        return None
    try:
        key = kind.import_key({name: value for name, value in document.items() if name not in {"key_ops", "d"}})
        return _named(key, document.get("kid"), document.get("alg"))
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _private(block: bytes) -> VerificationKey:
    for kind in (ECKey, OKPKey):
        try:
            key = kind.import_key(block)
        except (JoseError, ValueError, TypeError):
            continue
        if key.is_private:
            return _named(key)
    raise KeySetInvalid("a block is no private key of EC or Ed25519")


def _public(block: bytes) -> VerificationKey:
    for kind in _PUBLIC:
        try:
            key = kind.import_key(block)
        except (JoseError, ValueError, TypeError):
            continue
        if key.is_private:
            raise KeySetInvalid("it has a private key, where public ones are wanted")
        return _named(key)
    raise KeySetInvalid("a block is no public key or certificate that is supported")


def _named(key: RSAKey | ECKey | OKPKey, key_id: object = None, algorithm: object = None) -> VerificationKey:
    """Name a key by its thumbprint unless it has a name, with the one algorithm that it is for, or all that fit."""
    if isinstance(key, RSAKey):
        if key.raw_value.key_size < LEAST_RSA:
            raise KeySetInvalid(f"a key of RSA has fewer than {LEAST_RSA} bits")
        fitting = _RSA
    else:
        fitting = _BY_CURVE.get(key.curve_name, ())
    algorithms = tuple(name for name in fitting if algorithm in {None, name})
    if not algorithms:
        raise KeySetInvalid("a key is for no algorithm that is supported")
    return VerificationKey(key_id if isinstance(key_id, str) else key.thumbprint(), algorithms, key)
