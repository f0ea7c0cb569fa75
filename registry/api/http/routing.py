"""Routing: the endpoints of the OCI API as routes of FastAPI."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import Match

from registry.api import errors
from registry.api.access import Action
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from registry.api.context import ApiContext

ACTION: Final = "x-action"
"""The key of an operation in the OpenAPI document that says which right it needs."""


_PARAMETER = re.compile(r"\{[^}]*\}")


class OciRoute(APIRoute):
    """A route whose endpoint gets the request as it is.

    FastAPI validates no parameter and solves no dependency of it: a push is ten requests, and the endpoints check what
    they read with errors of the specification. The OpenAPI document has what ``operation`` says.
    """

    action: Action
    """The right that it needs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - as FastAPI
        """Raises ValueError for a route without an action (I12)."""
        options["summary"] = (endpoint.__doc__ or "").partition("\n")[0]
        super().__init__(path, endpoint, **options)
        # A name with a newline in it is an invalid name, not an unknown path; behind the end of a path it is unknown.
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
        if ACTION not in (self.openapi_extra or {}):
            raise ValueError(f"{path} names no action")
        self.action = Action(cast("dict[str, Any]", self.openapi_extra)[ACTION])
        self._literal = max(_PARAMETER.split(path), key=len)
        self._handle = self.get_route_handler()
        self.app = self._serve

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See APIRoute: a look at the longest literal of the path comes before the expression."""
        return super().matches(scope) if self._literal in scope["path"] else (Match.NONE, {})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute: the decision about the caller, the endpoint, and each error as an OCI error body."""
        endpoint: Callable[[Request], Awaitable[Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            try:
                scope = request.scope
                await context_of(request).access.require(scope, self.action, scope["path_params"].get("name"))
                return await endpoint(request)
            except Exception as error:  # noqa: BLE001 - every error has an answer
                if isinstance(error, Unauthorized):
                    context_of(request).challenges.add(request, error)
                return errors.answer(request, error)

        return handle

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. FastAPI's own has two stacks for dependencies, of which these endpoints have none."""
        request = Request(scope, receive, send)
        response = await self._handle(request)
        await response(scope, receive, send)


def context_of(request: Request) -> ApiContext:
    """What every endpoint works with."""
    return cast("ApiContext", request.app.state.context)
