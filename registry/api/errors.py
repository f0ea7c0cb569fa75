"""The one place where errors become answers: an OCI error body with the right status and code (spec, "Error Codes")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from registry.api.bodies import Interrupted
from registry.database.errors import DatabaseError
from registry.oci.errors import (
    NotFound,
    RegistryError,
    RequestTimeout,
    StorageFull,
    TooManyRequests,
    Unavailable,
    Unsupported,
)
from registry.storage.errors import StorageError, Throttled
from registry.storage.errors import StorageFull as StoreIsFull

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.types import Scope

METHOD_NOT_ALLOWED = 405
CLIENT_GONE = 499
"""The status of a request whose client left in the middle of its body; only the log sees it (nginx's number for it)."""
RETRY_SECONDS = "2"

log = structlog.get_logger(__name__)


def install(application: FastAPI) -> None:
    """Let every error of the application leave as an OCI error body."""
    application.add_exception_handler(RegistryError, _registry_error)
    application.add_exception_handler(Interrupted, _interrupted)
    application.add_exception_handler(StorageError, _storage_error)
    application.add_exception_handler(DatabaseError, _database_error)
    application.add_exception_handler(HTTPException, _http_error)
    application.add_exception_handler(Exception, _unexpected)


def render(error: RegistryError, scope: Scope) -> Response:
    """The answer that an error is. Notes the code for the log of the request."""
    scope["registry.error_code"] = error.code
    return Response(orjson.dumps(error.body()), error.status, error.headers, media_type="application/json")


async def _registry_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RegistryError)  # noqa: S101 - registered for this type
    return render(error, request.scope)


async def _interrupted(request: Request, error: Exception) -> Response:
    assert isinstance(error, Interrupted)  # noqa: S101 - registered for this type
    if not error.timed_out:
        return Response(status_code=CLIENT_GONE)
    message = "the body stopped arriving; send it again, an upload from where its status says that it is"
    return render(RequestTimeout(message, headers={"Connection": "close"}), request.scope)


async def _storage_error(request: Request, error: Exception) -> Response:
    log.error("storage failed", error=type(error).__name__, reason=str(error), request_id=_id(request))
    if isinstance(error, StoreIsFull):
        return render(StorageFull(), request.scope)
    if isinstance(error, Throttled):
        return render(TooManyRequests(headers={"Retry-After": RETRY_SECONDS}), request.scope)
    return render(Unavailable(headers={"Retry-After": RETRY_SECONDS}), request.scope)


async def _database_error(request: Request, error: Exception) -> Response:
    log.error("the database failed", error=type(error).__name__, reason=str(error), request_id=_id(request))
    return render(Unavailable(headers={"Retry-After": RETRY_SECONDS}), request.scope)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    if error.status_code == METHOD_NOT_ALLOWED:
        allowed = ", ".join(_allowed(request))
        return render(Unsupported(f"this path answers {allowed}", headers={"Allow": allowed}), request.scope)
    return render(NotFound(), request.scope)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error, path=request.url.path, request_id=_id(request))
    return render(RegistryError(), request.scope)


def _id(request: Request) -> str | None:
    """The id that the client has in X-Request-ID, and the request's line in the log."""
    request_id: str | None = request.scope.get("registry.request_id")
    return request_id


def _allowed(request: Request) -> list[str]:
    """The methods of every route that has this path."""
    methods: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)
