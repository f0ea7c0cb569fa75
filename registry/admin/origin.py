"""*Origin*: which site a browser's request comes from (RFC 6454, section 7; Fetch, "Origin header")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.api.http.routing import context_of
from registry.oci.errors import Denied

if TYPE_CHECKING:
    from starlette.requests import Request

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
FOREIGN: Final = (
    "the request comes from a page of another origin; if that is this registry, http.external_url or the headers of the"
    " proxy in front name another address than the browser"
)


def is_foreign(request: Request) -> bool:
    """Whether it says that it comes from a page of another site, or of one that it does not tell."""
    given = request.headers.getlist("origin")
    urls = context_of(request).urls
    own = {_normal(each) for each in (urls.origin(request), urls.external_origin) if each}
    return any(_normal(each) not in own for each in given)


def require_own_origin(request: Request, *, is_named: bool) -> None:
    """Return if a request that changes something does not come from another site.

    ``is_named``: it has to say where it comes from, since a browser adds what proves its identity by itself. Raises
    Denied.
    """
    if is_foreign(request) or (is_named and "origin" not in request.headers):
        raise Denied(FOREIGN)


def _normal(origin: str) -> str:
    """As browsers write it: in lower case, without the port that its scheme has."""
    scheme, _, host = origin.lower().partition("://")
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ''))}"
