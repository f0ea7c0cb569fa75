"""The OCI API as an ASGI application; paths that are not below ``/v2`` are passed on.

A push of a small image is ten requests, and a framework's own way to a handler costs more than most of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from registry.api import errors
from registry.api.route import Routes
from registry.oci.errors import NotFound, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from registry.api.edge import Edge
    from registry.api.route import Route

TEMPLATE = "registry.template"
"""The key of a scope with the template of the route, for metrics and the log."""


class Dispatcher:
    """Finds the handler of a request, and sends what it returns or raises."""

    def __init__(self, edge: Edge, routes: Iterable[Route], rest: ASGIApp) -> None:
        """``rest`` is the application of everything else."""
        self.edge = edge
        self._routes = Routes(routes)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. What fails once an answer has begun is raised: the server cuts the connection."""
        if scope["type"] != "http" or not _is_api(scope["path"]):
            await self._rest(scope, receive, send)
            return
        request = Request(scope, receive, send)
        self.edge.request_began()
        try:
            try:
                response = await self._answer(scope, request)
            except Exception as error:  # noqa: BLE001 - every error has an answer
                response = errors.answer(request, error)
            await response(scope, receive, send)
        finally:
            self.edge.request_ended()

    async def _answer(self, scope: Scope, request: Request) -> Response:
        found = self._routes.find(scope["path"], scope["method"])
        scope[TEMPLATE] = found.template
        scope["path_params"] = found.parameters
        if found.handler is not None:
            return await found.handler(self.edge, request)
        if not found.methods:
            raise NotFound
        allowed = ", ".join(found.methods)
        raise Unsupported(f"this path answers {allowed}", headers={"Allow": allowed})


def _is_api(path: str) -> bool:
    return path.startswith("/v2/") or path == "/v2"
