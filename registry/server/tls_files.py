"""*TLS files*: certificate, key, client authorities and revocations; changed files count for new connections.

Tests: ``tests/server/test_tls.py``.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from pathlib import Path

    from registry.config.sections import TlsSettings

LOOK_INTERVAL: Final = 0.5
"""Seconds between two looks at the files."""

log = structlog.get_logger(__name__)


class TlsFiles:
    """The TLS of one process. ``context`` is for any thread, ``look`` for one at a time."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises OSError, of which SSLError is one, and ValueError for files that cannot be used."""
        files = (settings.certificate, settings.key, settings.client_ca, settings.client_crl)
        self._settings = settings
        self._paths = [path for path in files if path is not None]
        self._used = self._last = self._states()
        self.context = make_context(settings)
        """For the next connection. It is replaced, never changed: no session that began under other files goes on."""
        self.problem: str | None = None
        """Why the files that are there now are not in use; None if they are."""

    def look(self) -> None:
        """Use changed files, once two looks have found them the same: they are written one after the other."""
        found = self._states()
        if found == self._last and found != self._used:
            self._take()
            self._used = found
        self._last = found

    def refresh(self) -> None:
        """Use changed files at once."""
        self._last = self._states()
        self.look()

    def _take(self) -> None:
        try:
            self.context = make_context(self._settings)
        except (OSError, ValueError) as error:
            self.problem = str(error)
            log.error("changed TLS files are not used, what they said before stays", reason=self.problem)  # noqa: TRY400 - the reason says everything
        else:
            self.problem = None
            log.info("changed TLS files are used for new connections", certificate=str(self._settings.certificate))

    def _states(self) -> list[object]:
        return [_state(path) for path in self._paths]


def make_context(settings: TlsSettings) -> ssl.SSLContext:
    """The TLS of these files. Raises OSError, of which SSLError is one, and ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # An empty password: a key that has one is an error, and no question on a terminal.
    context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
    if settings.client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL if settings.client_auth == "optional" else ssl.CERT_REQUIRED
        context.load_verify_locations(settings.client_ca)
    if settings.client_crl is not None:
        context.load_verify_locations(settings.client_crl)
        if not context.cert_store_stats()["crl"]:
            raise ValueError(f"{settings.client_crl} holds no revocation list")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _state(path: Path) -> object:
    """What changes when a file is written anew or replaced; the reason where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError as error:
        return error.strerror
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
