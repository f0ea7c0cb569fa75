"""Routing: every endpoint is a route of FastAPI that answers its own errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match

from registry.api import errors
from registry.api.access import Action
from registry.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from fastapi import FastAPI
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from registry.api.context import ApiContext

ACTION: Final = "x-action"
"""The key of an operation in the OpenAPI document that says which right it needs."""


_CONTEXT: Final = "registry.context"
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
        self._methods = frozenset(self.methods or ())
        self._match = self.path_regex.match
        self._handle = self.get_route_handler()
        self.app = self._serve

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See APIRoute: never PARTIAL, since ``errors`` looks for other methods of a path that has no route.

        The method and the longest literal of the path are compared before the expression.
        """
        if (
            scope["method"] in self._methods
            and self._literal in scope["path"]
            and (found := self._match(scope["path"]))
        ):
            return Match.FULL, {"endpoint": self.endpoint, "path_params": found.groupdict(), "route": self}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See APIRoute, which looks at the method once more."""
        await self._serve(scope, receive, send)

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


class Routes:
    """ASGI: the routes of an application, without the middleware around them.

    FastAPI's has errors as an answer, which ``OciRoute`` has itself, and closes what dependencies left open, of which
    there are none.
    """

    def __init__(self, application: FastAPI) -> None:
        self._application = application
        self._context: ApiContext = application.state.context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of HTTP."""
        scope["app"] = self._application
        scope[_CONTEXT] = self._context
        try:
            await self._application.router(scope, receive, send)
        except HTTPException as error:  # it has no route, so that nothing is sent yet
            response = errors.answer(Request(scope, receive), error)
            await response(scope, receive, send)


def context_of(request: Request) -> ApiContext:
    """What every endpoint works with."""
    context: ApiContext = request.scope[_CONTEXT]
    return context
