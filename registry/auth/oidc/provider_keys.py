"""*Provider keys*: the keys with which a provider signs, found by its discovery document and kept."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from registry.auth.key_set import of_jwks
from registry.auth.oidc.discovery import address_of, discover
from registry.auth.oidc.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.auth.key_set import KeySet


class ProviderKeys:
    """The keys of one provider, from the network. Any thread."""

    def __init__(self, issuer: str, fetch: Callable[[str], bytes], clock: Callable[[], float] = monotonic) -> None:
        """``fetch`` gets a document by its URL, or raises FetchFailed."""
        self._kept = Kept(issuer, lambda: of_jwks(fetch(address_of(discover(issuer, fetch), "jwks_uri"))), clock)

    def keys(self) -> KeySet:
        """See KeySource."""
        return self._kept.get()

    def look_again(self) -> KeySet:
        """See KeySource."""
        return self._kept.look_again()
