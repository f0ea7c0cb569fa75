"""Redirects: clients get the bytes of blobs from the store itself (``storage.redirect``).

Tests: ``tests/replicas/test_redirect.py``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.api.access import Caller
    from registry.config.sections import RedirectRule, StorageSettings
    from registry.storage.driver import StorageDriver

AGAIN = 0.1
"""Fraction of a signed URL's lifetime for which it is reused; a client then still has at least the remaining 90 %."""
MOST_SECONDS = 120.0
"""For which it is told again: borrowed credentials, with which it ends, are renewed ten minutes before they end."""


class Redirects:
    """Decides by client and repository. For GET of a blob alone: never for HEAD, never for manifests."""

    def __init__(self, settings: StorageSettings, driver: StorageDriver) -> None:
        self._settings = settings
        self._driver = driver
        self.again_seconds = min(AGAIN * settings.redirect_expiry, MOST_SECONDS)
        """How long an address may be told to other clients, too."""
        self._possible = driver.capabilities.presigned and settings.redirect != "off"

    def wanted(self, repository: str, caller: Caller) -> bool:
        """Whether this caller is sent to the store."""
        redirect = self._settings.redirect
        if not self._possible or isinstance(redirect, str):
            return self._possible
        return next((rule.redirect for rule in redirect if _fits(rule, caller, repository)), False)

    def address(self, key: str) -> str:
        """Where the object can be read for a while. In a thread: credentials may have to be fetched anew.

        Raises StorageError.
        """
        return self._driver.presign(key, seconds=self._settings.redirect_expiry)


def _fits(rule: RedirectRule, caller: Caller, repository: str) -> bool:
    return (
        (not rule.networks or _is_in(caller.address, rule))
        and (not rule.user_agents or any(fnmatchcase(caller.agent or "", pattern) for pattern in rule.user_agents))
        and (not rule.repositories or any(fnmatchcase(repository, pattern) for pattern in rule.repositories))
    )


def _is_in(text: str | None, rule: RedirectRule) -> bool:
    try:
        address = ip_address(text or "")
    except ValueError:
        return False
    return any(address in network for network in rule.networks)
