"""*Provider keys*: the keys with which a provider signs, found by its discovery document and kept.

The provider is asked seldom, whatever clients send: once in an hour, once in a minute for a key that is not known (a
client can invent those), and once in a few seconds while it does not answer. Kept keys outlive its silence.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from registry.auth.key_set import KeySet, KeySetInvalid, of_jwks
from registry.auth.oidc.documents import FetchFailed
from registry.config.urls import is_trustworthy
from registry.oci import strict_json
from registry.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

FRESH: Final = 3600.0
"""Seconds after which kept keys are fetched anew."""
LOOK_AGAIN: Final = 60.0
"""Seconds between two fetches while there are keys: for one that is not among them, or after a failure."""
RETRY: Final = 5.0
"""Seconds between two fetches while there are none."""
WAITING: Final = 4
"""Callers that wait for the first keys, at most: each has a thread."""
DISCOVERY: Final = "/.well-known/openid-configuration"

log = structlog.get_logger(__name__)


class ProviderKeys:
    """The keys of one provider, from the network. Any thread."""

    def __init__(self, issuer: str, fetch: Callable[[str], bytes], clock: Callable[[], float] = monotonic) -> None:
        """``fetch`` gets a document by its URL, or raises FetchFailed."""
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched = self._tried = float("-inf")
        self._fetching = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING)

    def keys(self) -> KeySet:
        """See KeySource."""
        if self._keys is None:
            self._wait_for_first()
        elif self._clock() - self._fetched >= FRESH:
            self.look_again()
        return self._known()

    def look_again(self) -> KeySet:
        """See KeySource. While another caller fetches, and within LOOK_AGAIN of the last fetch, they are the same."""
        if self._keys is not None and self._fetching.acquire(blocking=False):
            try:
                self._refresh(LOOK_AGAIN)
            finally:
                self._fetching.release()
        return self._known()

    def _known(self) -> KeySet:
        if self._keys is None:
            raise Unavailable("the identity provider does not answer; try again shortly", headers={"Retry-After": "5"})
        return self._keys

    def _wait_for_first(self) -> None:
        if self._waiting.acquire(blocking=False):
            try:
                with self._fetching:
                    if self._keys is None:
                        self._refresh(RETRY)
            finally:
                self._waiting.release()

    def _refresh(self, pause: float) -> None:
        now = self._clock()
        if now - self._tried < pause:
            return
        self._tried = now
        try:
            self._keys = of_jwks(self._fetch(self._discover()))
            self._fetched = now
        except (FetchFailed, KeySetInvalid) as error:
            self._tried = self._clock()  # callers that waited for this do not begin anew
            log.warning("the keys of an identity provider cannot be had", issuer=self._issuer, reason=str(error))

    def _discover(self) -> str:
        """The address of the keys (OpenID Connect Discovery 1.0, section 4). Raises FetchFailed."""
        try:
            document = strict_json.loads(self._fetch(self._issuer.rstrip("/") + DISCOVERY))
        except strict_json.StrictJSONError as error:
            raise FetchFailed("the discovery document is no JSON") from error
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise FetchFailed("the discovery document is that of another issuer")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or not is_trustworthy(address):
            raise FetchFailed("the discovery document has no jwks_uri of https")
        return address
