"""*Page routing*: routes for people, whose errors are pages too.

Tests: ``tests/web/test_login.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import HTMLResponse

from registry.api.http.routing import OciRoute, context_of
from registry.web.login_page import HEADERS, error_page

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

LOGIN = "/auth/login"


class PageRoute(OciRoute):
    """A route whose answers are HTML."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See OciRoute."""
        handle = super().get_route_handler()

        async def handle_page(request: Request) -> Response:
            answer = await handle(request)
            return _as_page(request, answer) if answer.media_type == "application/json" else answer

        return handle_page


def page(html: str, status: int = 200, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """A page that runs no script, in no frame, and that no cache keeps."""
    return HTMLResponse(html, status, {**HEADERS, **(headers or {})})


def _as_page(request: Request, answer: Response) -> Response:
    """The error of an answer as a page, with the headers that belong to it."""
    message = orjson.loads(answer.body)["errors"][0]["message"]
    kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    return page(error_page(message, context_of(request).urls.url(request, LOGIN)), answer.status_code, kept)
