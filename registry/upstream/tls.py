"""*TLS*: which authorities are believed, and which certificate is shown, by the server that is spoken to."""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config.upstream_sections import UpstreamSettings


class TlsContexts:
    """The contexts of one mirror, made when they are first wanted. Any thread."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._made: dict[tuple[bool, bool], ssl.SSLContext] = {}

    def context(self, *, is_own: bool, is_named: bool) -> ssl.SSLContext:
        """The context for one server. Raises OSError and ssl.SSLError where a file of the settings cannot be used.

        Every server may have a certificate of the system's authorities. Where it ``is_named`` in the settings also
        that of the mirror's authority counts, and where it ``is_own`` it is shown the client certificate.
        """
        with self._lock:
            key = is_own, is_named or is_own
            context = self._made.get(key)
            if context is None:
                context = self._made[key] = self._make(*key)
            return context

    def _make(self, is_own: bool, is_named: bool) -> ssl.SSLContext:  # noqa: FBT001 - the parts of a key
        settings = self._settings
        context = ssl.create_default_context()
        if is_named and settings.ca is not None:
            context.load_verify_locations(settings.ca)
        if is_own and settings.client_certificate is not None:
            context.load_cert_chain(settings.client_certificate, settings.client_key, password=_no_password())
        return context


def _no_password() -> Callable[[], str]:
    """A key with a password is an error: OpenSSL would ask for it at the terminal."""
    return lambda: ""
