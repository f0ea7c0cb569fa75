"""*Admin routing*: routes that take the session of a browser in place of credentials.

Tests: ``tests/admin/test_session.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from registry.admin.cookies import SESSION, find_cookie
from registry.admin.origin import require_own_origin
from registry.api import errors
from registry.api.access import act_as
from registry.api.http.routing import OciRoute, context_of
from registry.oci.errors import Denied

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request
    from starlette.responses import Response

    from registry.auth.browser.sessions import BrowserSession

SAFE: Final = frozenset({"GET", "HEAD"})
NOT_STORED: Final = {"Cache-Control": "no-store"}
_SESSION: Final = "registry.session"


class AdminRoute(OciRoute):
    """A route for credentials or for the cookie of a session; credentials go first.

    What changes something is refused when it comes from a page of another site, whatever proves its identity.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See OciRoute, whose decision is about the identity of the session."""
        handle = super().get_route_handler()

        async def handle_session(request: Request) -> Response:
            try:
                session = await find_session(request)
                if session is not None:
                    act_as(request.scope, session.identity)
                if request.method not in SAFE:
                    require_own_origin(request, is_named=session is not None)
            except Denied as error:
                context_of(request).audit.refuse(request.scope, error)
                return errors.answer(request, error)
            except Exception as error:  # noqa: BLE001 - every error has an answer
                return errors.answer(request, error)
            return await handle(request)

        return handle_session


async def find_session(request: Request) -> BrowserSession | None:
    """The session of a request without credentials; None if it has none that goes on.

    Raises DatabaseError, StorageError.
    """
    context, scope = context_of(request), request.scope
    logins = None if context.authentication is None else context.authentication.logins
    secret = "" if logins is None or "authorization" in request.headers else find_cookie(request, SESSION)
    if logins is not None and secret and _SESSION not in scope:
        scope[_SESSION] = await context.run(logins.sessions.find, secret)
    session: BrowserSession | None = scope.get(_SESSION)
    return session
