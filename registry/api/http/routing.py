"""Routing: a template of a path, and what answers it by method."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import Request

from registry.api import errors
from registry.oci.errors import NotFound, Unsupported

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from registry.api.context import ApiContext

    Handler = Callable[[ApiContext, Request], Awaitable[Response]]

_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


class Route(NamedTuple):
    """What answers some methods of the paths of one template."""

    template: str
    """``{parameter}`` is one segment, ``{parameter:path}`` any number of them."""
    handler: Handler
    methods: Sequence[str]
    """GET does not imply HEAD."""


class Found(NamedTuple):
    """What a path and a method lead to."""

    template: str | None
    """Of the first route that has the path; None: there is none."""
    handler: Handler | None
    """None: no route has both."""
    parameters: dict[str, str]
    methods: list[str]
    """Of all routes that have the path, where none of them has the method."""


class _Path:
    """One template and its handlers by method."""

    def __init__(self, template: str) -> None:
        literals = _PARAMETER.split(template)[::3]
        self.template = template
        self.handlers: dict[str, Handler] = {}
        self.marker = max(literals[1:] or literals, key=len)
        """Part of every path of the template: a cheap look before the expression."""
        self.match = re.compile(_PARAMETER.sub(_expression, template), re.DOTALL).fullmatch


class Routes:
    """Finds routes; among several with the same path and method the first counts."""

    def __init__(self, routes: Iterable[Route]) -> None:
        paths: dict[str, _Path] = {}
        for route in routes:
            path = paths.setdefault(route.template, _Path(route.template))
            for method in route.methods:
                path.handlers.setdefault(method, route.handler)
        self._paths = list(paths.values())

    def find(self, path: str, method: str) -> Found:
        """What answers ``method`` of ``path``."""
        first: str | None = None
        parameters: dict[str, str] = {}
        methods: set[str] = set()
        for candidate in self._paths:
            if candidate.marker not in path:
                continue
            match = candidate.match(path)
            if match is None:
                continue
            handler = candidate.handlers.get(method)
            if handler is not None:
                return Found(candidate.template, handler, match.groupdict(), [])
            if first is None:
                first, parameters = candidate.template, match.groupdict()
            methods.update(candidate.handlers)
        return Found(first, None, parameters, sorted(methods))


def _expression(parameter: re.Match[str]) -> str:
    name, is_path = parameter.groups()
    return f"(?P<{name}>.*)" if is_path else f"(?P<{name}>[^/]+)"


TEMPLATE = "registry.template"
"""The key of a scope with the template of the route, for metrics and the log."""


class Dispatcher:
    """Finds the handler of a request, and sends what it returns or raises."""

    def __init__(self, context: ApiContext, routes: Iterable[Route], rest: ASGIApp) -> None:
        """``rest`` is the application of everything else."""
        self.context = context
        self._routes = Routes(routes)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. What fails once an answer has begun is raised: the server cuts the connection."""
        if scope["type"] != "http" or not _is_api(scope["path"]):
            await self._rest(scope, receive, send)
            return
        request = Request(scope, receive, send)
        self.context.request_began()
        try:
            try:
                response = await self._answer(scope, request)
            except Exception as error:  # noqa: BLE001 - every error has an answer
                response = errors.answer(request, error)
            await response(scope, receive, send)
        finally:
            self.context.request_ended()

    async def _answer(self, scope: Scope, request: Request) -> Response:
        found = self._routes.find(scope["path"], scope["method"])
        scope[TEMPLATE] = found.template
        scope["path_params"] = found.parameters
        if found.handler is not None:
            return await found.handler(self.context, request)
        if not found.methods:
            raise NotFound
        allowed = ", ".join(found.methods)
        raise Unsupported(f"this path answers {allowed}", headers={"Allow": allowed})


def _is_api(path: str) -> bool:
    return path.startswith("/v2/") or path == "/v2"
