"""Routing: every endpoint is a route of FastAPI that answers its own errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from registry.api import errors
from registry.api.access import Action, caller_of
from registry.api.http.empty_response import EmptyResponse
from registry.api.http.exchange import EXCHANGE
from registry.oci.errors import RegistryError, Unauthorized, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from registry.api.context import ApiContext
    from registry.api.http.exchange import Exchange

ACTION: Final = "x-action"
"""The key of an operation in the OpenAPI document that says which right it needs."""


_CONTEXT: Final = "registry.context"
_WHOLE: Final = frozenset({Response, JSONResponse, EmptyResponse})
"""Responses that have all of their body."""
_BEGINNING: Final = "/v2/"
_SHAPE = re.compile(r"/v2/\{name:path\}(?P<literal>/[a-z/]+)(?:\{(?P<last>[a-z]+)\})?")


class _Shape(NamedTuple):
    """What most templates are: a name, a literal, and perhaps one segment; a path of it is cut without an expression.

    The name is as long as possible, as in the expression: the last place of the literal is what counts.
    """

    literal: str
    last: str
    """The parameter behind the literal; empty if that ends the path."""

    @classmethod
    def of(cls, template: str) -> _Shape | None:
        """None if it is another."""
        found = _SHAPE.fullmatch(template)
        return None if found is None else cls(found["literal"], found["last"] or "")

    def parameters(self, path: str) -> dict[str, Any] | None:
        """Those in a path; None if it has another shape."""
        head, literal, rest = path.rpartition(self.literal)
        if not literal or not head.startswith(_BEGINNING):
            return None
        name = head[len(_BEGINNING) :]
        if not self.last:
            return None if rest else {"name": name}
        return {"name": name, self.last: rest} if rest and "/" not in rest else None


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
        self._is_for_all = self.action is Action.NONE
        self._methods = frozenset(self.methods or ())
        self._match = self.path_regex.match
        self._shape = _Shape.of(path)
        self._respond = self.get_route_handler()
        self.app = self.serve

    def parameters(self, path: str) -> dict[str, Any] | None:
        """The parameters in a path; None if it is not this route's."""
        if self._shape is not None:
            return self._shape.parameters(path)
        found = self._match(path)
        return None if found is None else found.groupdict()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See APIRoute: never PARTIAL, since ``errors`` looks for other methods of a path that has no route."""
        if scope["method"] in self._methods and (found := self.parameters(scope["path"])) is not None:
            return Match.FULL, {"endpoint": self.endpoint, "path_params": found, "route": self}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See APIRoute, which looks at the method once more."""
        await self.serve(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute: the decision about the caller, the endpoint, and each error as an OCI error body."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            scope = request.scope
            access = scope[_CONTEXT].access
            try:
                repository = scope["path_params"].get("name")
                if not (self._is_for_all or caller_of(scope).is_verified):
                    await access.verify(scope, self.action, repository)
                access.require(scope, self.action, repository)
                if self.action is Action.PUSH:
                    _require_own(scope, repository)
                return await endpoint(request)
            except Exception as error:  # noqa: BLE001 - every error has an answer
                if isinstance(error, RegistryError):
                    context_of(request).audit.refuse(request.scope, error)
                if isinstance(error, Unauthorized):
                    context_of(request).challenges.add(request, error)
                return errors.answer(request, error)

        return handle

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. FastAPI's own has two stacks for dependencies, of which these endpoints have none."""
        response = await self._respond(_Request(scope, receive, send))
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is not None and type(response) in _WHOLE and response.background is None:
            await exchange.answer(response)
        else:
            await response(scope, receive, send)


def _require_own(scope: Scope, repository: str) -> None:
    """Raises Unsupported for a push to a repository of a mirror, whose content comes from its upstream alone."""
    context: ApiContext = scope[_CONTEXT]
    if context.mirrors is not None and (found := context.mirrors.find(repository)) is not None:
        message = f"{repository} is of the mirror {found.mirror.name}, to which no client can push; choose another name"
        raise Unsupported(message, headers={"Allow": "GET, HEAD"})


class _Request(Request):
    """Starlette's, which sets more than an endpoint reads."""

    _stream_consumed = False
    _is_disconnected = False
    _form = None

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send


class Routes:
    """ASGI: the routes of an application, without the middleware around them.

    FastAPI's has errors as an answer, which ``OciRoute`` has itself, and closes what dependencies left open, of which
    there are none.
    """

    def __init__(self, application: FastAPI) -> None:
        self._application = application
        self._context: ApiContext = application.state.context
        self._of_method: dict[str, list[OciRoute]] = {}
        for route in application.router.routes:
            if isinstance(route, OciRoute):
                for method in route.methods or ():
                    self._of_method.setdefault(method, []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of HTTP."""
        scope["app"] = self._application
        scope[_CONTEXT] = self._context
        path = scope["path"]
        for route in self._of_method.get(scope["method"], ()):
            found = route.parameters(path)
            if found is not None:
                scope["route"], scope["path_params"] = route, found
                await route.serve(scope, receive, send)
                return
        try:
            await self._application.router(scope, receive, send)
        except HTTPException as error:  # it has no route, so that nothing is sent yet
            response = errors.answer(Request(scope, receive), error)
            await response(scope, receive, send)


def context_of(request: Request) -> ApiContext:
    """What every endpoint works with."""
    context: ApiContext = request.scope[_CONTEXT]
    return context
