"""Routing: the endpoints of the OCI API as routes of FastAPI."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi.routing import APIRoute

from registry.api import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.requests import Request
    from starlette.responses import Response

    from registry.api.context import ApiContext

ACTION: Final = "x-action"
"""The key of an operation in the OpenAPI document that says which right it needs."""


class Action(enum.StrEnum):
    """What a caller has to be allowed to do."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"
    """See the names of repositories."""
    NONE = "none"
    """Nothing: the endpoint is for every caller."""


class OciRoute(APIRoute):
    """A route whose endpoint gets the request as it is.

    FastAPI validates no parameter and solves no dependency of it: a push is ten requests, and the endpoints check what
    they read with errors of the specification. The OpenAPI document has what ``operation`` says.
    """

    action: Action
    """What its caller has to be allowed to do."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - as FastAPI
        """Raises ValueError for a route without an action (I12)."""
        super().__init__(path, endpoint, **options)
        # A name with a newline in it is an invalid name, not an unknown path.
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)
        if ACTION not in (self.openapi_extra or {}):
            raise ValueError(f"{path} names no action")
        self.action = Action(cast("dict[str, Any]", self.openapi_extra)[ACTION])

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute: the endpoint, with each of its errors as an OCI error body."""
        endpoint: Callable[[Request], Awaitable[Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Exception as error:  # noqa: BLE001 - every error has an answer
                return errors.answer(request, error)

        return handle


def context_of(request: Request) -> ApiContext:
    """What every endpoint works with."""
    return cast("ApiContext", request.app.state.context)
