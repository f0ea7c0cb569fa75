"""*Credential*: a user and a secret, and the sources that give one to each request.

Tests: ``tests/upstream/credentials/test_credentials.py``.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from registry.upstream.url import Origin


class Credential(NamedTuple):
    """A user and a secret. Its text shows neither."""

    user: str
    secret: str

    @property
    def basic(self) -> str:
        """The value of Authorization (RFC 7617)."""
        return "Basic " + b64encode(f"{self.user}:{self.secret}".encode()).decode()

    @property
    def fingerprint(self) -> bytes:
        """A hash of both: tokens are kept by it, so that one credential never gets the token of another."""
        return hashlib.sha256(f"{self.user}:{self.secret}".encode()).digest()

    def __repr__(self) -> str:
        return "Credential(...)"


class Credentials(Protocol):
    """Where the credential of a mirror comes from. Any thread."""

    def get(self, origin: Origin) -> Credential | None:
        """The credential for a server, as it is now; None if there is none for it. Raises TokenUnavailable."""

    def reject(self, credential: Credential) -> bool:
        """A server does not accept this one. Returns whether the next one may be another."""
