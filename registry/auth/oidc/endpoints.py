"""*Endpoints*: where a provider logs its users in, found by its discovery document and kept."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from registry.auth.oidc.discovery import address_of, discover
from registry.auth.oidc.documents import FetchFailed
from registry.auth.oidc.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IN_BODY: Final = "client_secret_post"
IN_HEADER: Final = "client_secret_basic"


class Endpoints(NamedTuple):
    """What a login needs of a provider (OpenID Connect Discovery 1.0, section 3)."""

    authorization: str
    """Where its users log in."""
    token: str
    """Where a code is exchanged."""
    secret_in_body: bool
    """The client's secret is a field of the form: the provider takes no Basic credentials."""
    names_issuer: bool
    """Each of its answers has ``iss`` (RFC 9207)."""
    end_session: str | None
    """Where its users log out (OpenID Connect RP-Initiated Logout 1.0); None if it says of none that can be used."""


class ProviderEndpoints:
    """The endpoints of one provider. Any thread."""

    def __init__(self, issuer: str, fetch: Callable[[str], bytes], clock: Callable[[], float] = monotonic) -> None:
        """``fetch`` gets a document by its URL, or raises FetchFailed."""
        self._kept = Kept(issuer, lambda: _endpoints(issuer, fetch), clock)

    def find(self) -> Endpoints:
        """The endpoints. Raises Unavailable while the provider has never answered."""
        return self._kept.get()


def _endpoints(issuer: str, fetch: Callable[[str], bytes]) -> Endpoints:
    document = discover(issuer, fetch)
    methods = document.get("token_endpoint_auth_methods_supported") or [IN_HEADER]  # the default of section 3
    return Endpoints(
        address_of(document, "authorization_endpoint"),
        address_of(document, "token_endpoint"),
        secret_in_body=isinstance(methods, list) and IN_HEADER not in methods and IN_BODY in methods,
        names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        end_session=_end_session(document),
    )


def _end_session(document: Mapping[str, Any]) -> str | None:
    try:
        return address_of(document, "end_session_endpoint")
    except FetchFailed:  # users log in all the same
        return None
