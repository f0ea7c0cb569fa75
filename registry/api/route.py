"""Routes of the OCI API: a template of a path, and what answers it by method."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from registry.api.edge import Edge

    Handler = Callable[[Edge, Request], Awaitable[Response]]

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
