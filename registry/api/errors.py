"""The one place where errors become answers: an OCI error body with the right status and code (spec, "Error Codes").

Tests: ``tests/api/test_failures.py``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import Response

from registry.api.http.request_body import Interrupted
from registry.database.errors import DatabaseError
from registry.oci.errors import (
    InsufficientStorage,
    NotFound,
    RegistryError,
    RequestTimeout,
    Unavailable,
    Unsupported,
)
from registry.storage.errors import StorageError, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import Scope

CLIENT_GONE = 499
"""The status of a request whose client left in the middle of its body; only the log sees it (nginx's number for it)."""
RETRY_SECONDS = "2"
OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})

log = structlog.get_logger(__name__)


def answer(request: Request, error: Exception) -> Response:
    """The answer to a request that an error ended."""
    for kind, render_kind in _ANSWERS.items():
        if isinstance(error, kind):
            return render_kind(request, error)
    return _unexpected(request, error)


def render(error: RegistryError, scope: Scope) -> Response:
    """The answer that an error is. Notes the code for the log of the request."""
    scope["registry.error_code"] = error.code
    return Response(orjson.dumps(error.body()), error.status, error.headers, media_type="application/json")


def _registry_error(request: Request, error: RegistryError) -> Response:
    return render(error, request.scope)


def _interrupted(request: Request, error: Interrupted) -> Response:
    if not error.timed_out:
        return Response(status_code=CLIENT_GONE)
    message = "the body stopped arriving; send it again, an upload from where its status says that it is"
    return render(RequestTimeout(message, headers={"Connection": "close"}), request.scope)


def _storage_error(request: Request, error: StorageError) -> Response:
    log.error("storage failed", error=type(error).__name__, reason=str(error), request_id=_id(request))
    if isinstance(error, StorageFull):
        return render(InsufficientStorage(), request.scope)
    return render(Unavailable(headers={"Retry-After": RETRY_SECONDS}), request.scope)


def _database_error(request: Request, error: DatabaseError) -> Response:
    log.error("the database failed", error=type(error).__name__, reason=str(error), request_id=_id(request))
    return render(Unavailable(headers={"Retry-After": RETRY_SECONDS}), request.scope)


def _system_error(request: Request, error: OSError) -> Response:
    if error.errno not in OUT_OF_DESCRIPTORS:
        return _unexpected(request, error)
    log.error("the process is out of descriptors", reason=str(error), request_id=_id(request))
    return render(Unavailable(headers={"Retry-After": RETRY_SECONDS}), request.scope)


def _no_route(request: Request, _error: HTTPException) -> Response:
    if allowed := ", ".join(_allowed(request)):
        return render(Unsupported(f"this path answers {allowed}", headers={"Allow": allowed}), request.scope)
    return render(NotFound(), request.scope)


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error, path=request.url.path, request_id=_id(request))
    return render(RegistryError(), request.scope)


def _id(request: Request) -> str | None:
    """The id that the client has in X-Request-ID, and the request's line in the log."""
    request_id: str | None = request.scope.get("registry.request_id")
    return request_id


def _allowed(request: Request) -> list[str]:
    """The methods of every route that has this path."""
    path = request.scope["path"]
    return sorted({method for route in request.app.routes if route.path_regex.match(path) for method in route.methods})


_ANSWERS: dict[type[Exception], Callable[[Request, Any], Response]] = {
    RegistryError: _registry_error,
    Interrupted: _interrupted,
    StorageError: _storage_error,
    DatabaseError: _database_error,
    HTTPException: _no_route,
    OSError: _system_error,
}
"""The renderer of each kind of error; every other error is a mistake of ours."""
