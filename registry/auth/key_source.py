"""*Key source*: where the keys that verify an issuer's tokens come from, and the verification with them.

Tests: ``tests/auth/tokens/test_signing_keys.py``, ``tests/auth/oidc/test_provider_keys.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from registry.auth.jwt import Jwt, KeyUnknown
from registry.auth.key_set import KeySet, is_pem, of_jwks, of_pem
from registry.auth.watched_file import WatchedFile

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


class KeySource(Protocol):
    """Any thread."""

    def keys(self) -> KeySet:
        """Those that are known. Raises Unavailable, DatabaseError if none are."""
        ...

    def look_again(self) -> KeySet:
        """Those that are known now, for a token whose key was not among them.

        Clients can invent such tokens: it looks seldom. Raises as ``keys``.
        """
        ...


class KeyFile:
    """Public keys in a file of an operator: a JWK set, or blocks of PEM."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError, OSError."""
        self.file = WatchedFile(path, _parse)

    def keys(self) -> KeySet:
        """See KeySource: those of the file as it is now."""
        return self.file.current()

    def look_again(self) -> KeySet:
        """See KeySource."""
        return self.file.current()


def verify(token: Jwt, source: KeySource, *, issuer: str, audiences: Collection[str], now: float) -> None:
    """Return if it is good. Raises JwtInvalid, and what the source raises."""
    try:
        token.verify(source.keys(), issuer=issuer, audiences=audiences, now=now)
    except KeyUnknown:
        token.verify(source.look_again(), issuer=issuer, audiences=audiences, now=now)


def _parse(document: bytes) -> KeySet:
    return of_pem(document) if is_pem(document) else of_jwks(document)
