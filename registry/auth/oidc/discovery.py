"""*Discovery*: the document in which a provider names its endpoints (OpenID Connect Discovery 1.0, section 4).

Tests: ``tests/auth/oidc/test_provider_keys.py``, ``tests/auth/oidc/test_endpoints.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from registry.auth.oidc.documents import FetchFailed
from registry.config.urls import is_trustworthy
from registry.oci import strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DISCOVERY: Final = "/.well-known/openid-configuration"


def discover(issuer: str, fetch: Callable[[str], bytes]) -> Mapping[str, Any]:
    """The document of an issuer. Raises FetchFailed, also for that of another one."""
    try:
        document = strict_json.loads(fetch(issuer.rstrip("/") + DISCOVERY))
    except strict_json.StrictJSONError as error:
        raise FetchFailed("the discovery document is no JSON") from error
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise FetchFailed("the discovery document is that of another issuer")
    return document


def address_of(document: Mapping[str, Any], name: str) -> str:
    """An address that the document names.

    Raises FetchFailed if it is not https: only a provider on this machine names an address here. What listens here for
    this machine alone is not for a provider elsewhere.
    """
    address = document.get(name)
    if not isinstance(address, str) or not is_trustworthy(address) or _is_worse(address, document["issuer"]):
        raise FetchFailed(f"the discovery document has no {name} of https")
    return address


def _is_worse(address: str, issuer: str) -> bool:
    return urlsplit(issuer).scheme == "https" and urlsplit(address).scheme != "https"
