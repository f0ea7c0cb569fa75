"""Sending clients to the store itself for the bytes of blobs (``storage.redirect``)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.locations import Locations
    from registry.config import RedirectRule, StorageSettings
    from registry.storage.driver import StorageDriver


class Redirects:
    """Decides by client and repository. For GET of a blob alone: never for HEAD, never for manifests."""

    def __init__(self, settings: StorageSettings, driver: StorageDriver, locations: Locations) -> None:
        self._settings = settings
        self._driver = driver
        self._locations = locations
        self._possible = driver.capabilities.presigned and settings.redirect != "off"

    def wanted(self, request: Request, repository: str) -> bool:
        """Whether this client is sent to the store."""
        redirect = self._settings.redirect
        if not self._possible or isinstance(redirect, str):
            return self._possible
        client = self._locations.client_of(request.scope)
        agent = request.headers.get("user-agent", "")
        return next((rule.redirect for rule in redirect if _fits(rule, client, agent, repository)), False)

    def address(self, key: str) -> str:
        """Where the object can be read for a while. Raises StorageError."""
        return self._driver.presign(key, seconds=self._settings.redirect_expiry)


def _fits(rule: RedirectRule, client: str | None, agent: str, repository: str) -> bool:
    return (
        (not rule.networks or _is_in(client, rule))
        and (not rule.user_agents or any(fnmatchcase(agent, pattern) for pattern in rule.user_agents))
        and (not rule.repositories or any(fnmatchcase(repository, pattern) for pattern in rule.repositories))
    )


def _is_in(client: str | None, rule: RedirectRule) -> bool:
    try:
        address = ip_address(client or "")
    except ValueError:
        return False
    return any(address in network for network in rule.networks)
