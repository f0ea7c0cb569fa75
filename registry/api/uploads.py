"""Uploads: end-4, 5, 6, 11, 13, 14, pushing blobs (spec, "Pushing a blob")."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action, caller_of
from registry.api.context import ended
from registry.api.http.direct_upload import receive_from_socket
from registry.api.http.fields import field
from registry.api.http.operations import (
    ALGORITHM,
    BYTES,
    CLOSING_DIGEST,
    CONTENT_RANGE,
    MOUNT,
    NAME,
    SOURCE,
    UPLOAD,
    operation,
)
from registry.api.http.parameters import mount_of, name_of, query_digest, upload_of
from registry.api.http.reception import Reception, receive_into
from registry.api.http.request_body import PATIENCE, Body, Interrupted, declared_length
from registry.api.http.routing import OciRoute, context_of
from registry.images.session_ids import noted
from registry.images.uploads import DEFAULT_ALGORITHM, PerhapsClosed
from registry.oci.digest import SUPPORTED_ALGORITHMS
from registry.oci.errors import (
    BlobUnknown,
    BlobUploadBusy,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    InsufficientStorage,
    NameInvalid,
    NameUnknown,
    RangeInvalid,
    RegistryError,
    RequestTimeout,
    SizeInvalid,
    TooManyRequests,
)
from registry.oci.ranges import parse_content_range
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from registry.api.context import ApiContext
    from registry.api.http.parameters import Mount
    from registry.oci.digest import Digest

log = structlog.get_logger(__name__)


SESSIONS = "/v2/{name:path}/blobs/uploads"
SESSION = f"{SESSIONS}/{{upload}}"

SESSION_ERRORS = (NameInvalid, BlobUploadInvalid, BlobUploadUnknown)
CANCEL_ERRORS = (*SESSION_ERRORS, BlobUploadBusy)
BODY_ERRORS = (SizeInvalid, RangeInvalid, RequestTimeout, InsufficientStorage)
CHUNK_ERRORS = (*CANCEL_ERRORS, *BODY_ERRORS)
CLOSE_ERRORS = (*CHUNK_ERRORS, DigestInvalid)
START_ERRORS = (*SESSION_ERRORS, *BODY_ERRORS, DigestInvalid, TooManyRequests)

START = operation(
    Action.PUSH,
    NAME,
    CLOSING_DIGEST,
    MOUNT,
    SOURCE,
    ALGORITHM,
    answers=(202, 201),
    errors=START_ERRORS,
    body=BYTES,
)

router = APIRouter(route_class=OciRoute, tags=["Uploads"])


@router.post(SESSIONS, **START)
@router.post(f"{SESSIONS}/", **START)
async def start(request: Request) -> Response:
    """Mount a blob, push one in this request, or begin a session: also where what is to be mounted cannot be."""
    context = context_of(request)
    name = name_of(request)
    query = request.query_params
    mount = mount_of(request)
    if (
        mount is not None
        and _may_read(context, request, mount)
        and await context.run(_has_mounted, context, name, mount)
    ):
        return _created(context, request, name, mount.digest)
    if "digest" in query:
        digest = query_digest(request)
        await _receive_at_once(context, request, name, digest)
        return _created(context, request, name, digest)
    algorithm = query.get("digest-algorithm", DEFAULT_ALGORITHM)
    if algorithm not in SUPPORTED_ALGORITHMS:
        raise DigestInvalid(f"digest-algorithm must be one of {', '.join(SUPPORTED_ALGORITHMS)}")
    await Body(request, context.settings.http.idle_timeout).expect_none()
    upload_id = await context.run(
        context.registry.uploads.start, name, algorithm, address=caller_of(request.scope).address
    )
    return Response(status_code=202, headers=_progress(context, request, name, upload_id, 0))


@router.get(SESSION, **operation(Action.PUSH, NAME, UPLOAD, answers=(204,), errors=SESSION_ERRORS))
@router.head(SESSION, **operation(Action.PUSH, NAME, UPLOAD, answers=(204,), errors=SESSION_ERRORS, head=True))
async def status(request: Request) -> Response:
    """Say how many bytes are here, so that a client can resume."""
    context = context_of(request)
    name, upload_id = name_of(request), upload_of(request)
    row = await context.run(context.registry.uploads.find, name, upload_id)
    return Response(status_code=204, headers=_progress(context, request, name, upload_id, row.offset))


@router.patch(
    SESSION, **operation(Action.PUSH, NAME, UPLOAD, CONTENT_RANGE, answers=(202,), errors=CHUNK_ERRORS, body=BYTES)
)
async def add(request: Request) -> Response:
    """Add a chunk, or a stream of any length."""
    context = context_of(request)
    name, upload_id = name_of(request), upload_of(request)
    offset = await _receive(context, request, name, upload_id, _start_of(request), None)
    return Response(status_code=202, headers=_progress(context, request, name, upload_id, offset))


@router.put(
    SESSION,
    **operation(
        Action.PUSH, NAME, UPLOAD, CLOSING_DIGEST, CONTENT_RANGE, answers=(201,), errors=CLOSE_ERRORS, body=BYTES
    ),
)
async def finish(request: Request) -> Response:
    """Add what the body has, if anything, and publish the whole under the digest of the query.

    Once more is as good as once: a proxy in front of replicas asks the next where one was lost before it answered.
    """
    context = context_of(request)
    name, upload_id = name_of(request), upload_of(request)
    digest = query_digest(request)
    try:
        await _receive(context, request, name, upload_id, _start_of(request), digest)
    except (BlobUploadUnknown, PerhapsClosed) as error:
        await context.run(_require_blob, context, name, digest, error)
    return _created(context, request, name, digest)


@router.delete(SESSION, **operation(Action.PUSH, NAME, UPLOAD, answers=(204,), errors=CANCEL_ERRORS))
async def cancel(request: Request) -> Response:
    """End the session."""
    context = context_of(request)
    name, upload_id = name_of(request), upload_of(request)
    await context.run(context.registry.uploads.cancel, name, upload_id)
    return Response(status_code=204)


def _may_read(context: ApiContext, request: Request, mount: Mount) -> bool:
    """Whether the caller may pull from the source (I12); if not, its upload proves that it has the bytes."""
    return context.access.decide(caller_of(request.scope), Action.PULL, mount.source) is None


def _has_mounted(context: ApiContext, name: str, mount: Mount) -> bool:
    """Whether the blob was mounted. In a thread.

    False whatever is wrong with it or its bytes: the client has them too, and its upload is what mends them.
    """
    try:
        return context.registry.blobs.mount(name, mount.digest, mount.source)
    except (RegistryError, StorageError) as error:
        log.warning("a blob could not be mounted and is uploaded", repository=name, reason=str(error))
        return False


async def _receive_at_once(context: ApiContext, request: Request, name: str, digest: Digest) -> None:
    """Single POST: the client never learns of the session, so none stays when it fails."""
    upload_id = await context.run(
        context.registry.uploads.start, name, digest.algorithm, address=caller_of(request.scope).address
    )
    try:
        await _receive(context, request, name, upload_id, None, digest)
    except BaseException:
        with contextlib.suppress(RegistryError):
            await context.end(context.registry.uploads.cancel, name, upload_id)
        raise


async def _receive(
    context: ApiContext, request: Request, name: str, upload_id: str, start: int | None, digest: Digest | None
) -> int:
    """Take the body into the session and, with ``digest``, publish it. Returns the offset.

    A body of one chunk costs one call of the core; a longer or slower one is written while it is received.
    """
    body = Body(request, context.settings.http.idle_timeout)
    async with _status_on_conflict(context, request, name, upload_id):
        with context.receivers.one_more():
            try:
                await body.gather(context.receivers.chunk_size(), PATIENCE)
            except Interrupted:
                await context.end(_add_whole, context, name, upload_id, start, body.take(), None)
                raise
            if not body.ended:
                opening = context.run(context.registry.uploads.open, name, upload_id, start, digest)
                async with Reception.open(context, opening) as reception:
                    await _receive_long(context, request, body, reception)
                    writer = reception.writer
                    if digest is not None:
                        await ended(context.end(context.registry.uploads.finish, writer, digest))
                    else:
                        await ended(context.end(writer.commit))
                return writer.offset
        return await context.run(_add_whole, context, name, upload_id, start, body.take(), digest)


async def _receive_long(context: ApiContext, request: Request, body: Body, reception: Reception) -> None:
    """Take a body of several chunks, or a slow one; of one that stops in the middle what came is kept."""
    try:
        timeout = context.settings.http.idle_timeout
        if not await receive_from_socket(context, request.scope, body, reception, timeout):
            await receive_into(context, body, reception)
    except BaseException:
        await ended(context.end(reception.writer.commit))
        raise


def _add_whole(
    context: ApiContext, name: str, upload_id: str, start: int | None, data: bytes, digest: Digest | None
) -> int:
    """Everything that a request with a short body asks for. In a thread."""
    with context.registry.uploads.open(name, upload_id, start, digest, at_once=digest is not None) as writer:
        if data:
            writer.write(data)
        if digest is None:
            writer.commit()
        else:
            context.registry.uploads.finish(writer, digest)
        return writer.offset


def _require_blob(context: ApiContext, name: str, digest: Digest, error: RegistryError) -> None:
    """Raises ``error`` unless the repository has the blob, which is then leased (I7). In a thread."""
    try:
        context.registry.blobs.require_written_down(name, digest)
    except (BlobUnknown, NameUnknown):
        raise error from None


@contextlib.asynccontextmanager
async def _status_on_conflict(context: ApiContext, request: Request, name: str, upload_id: str) -> AsyncIterator[None]:
    """A chunk out of order is answered with where to go on; the session lives (spec, "Pushing a blob in chunks")."""
    try:
        yield
    except RangeInvalid as error:
        detail = error.detail
        if isinstance(detail, dict) and isinstance(offset := detail.get("offset"), int):
            error.headers.update(_progress(context, request, name, upload_id, offset))
        raise


def _start_of(request: Request) -> int | None:
    """Where the client says that its chunk begins. Raises RangeInvalid, SizeInvalid."""
    text = field(request, "content-range")
    if text is None:
        return None
    start, end = parse_content_range(text)
    length = declared_length(request)
    if length is not None and length != end - start + 1:
        raise SizeInvalid(f"Content-Range {text} has {end - start + 1} bytes, Content-Length says {length}")
    return start


def _progress(context: ApiContext, request: Request, name: str, upload_id: str, offset: int) -> dict[str, str]:
    """The headers of a session: where to go on. ``Range`` is inclusive, so that no byte at all is also ``0-0``."""
    upload_id = noted(upload_id) if offset else upload_id
    return {
        "Location": context.urls.url(request, f"/v2/{name}/blobs/uploads/{upload_id}"),
        "Range": f"0-{max(0, offset - 1)}",
        "Docker-Upload-UUID": upload_id,
    }


def _created(context: ApiContext, request: Request, name: str, digest: Digest) -> Response:
    location = context.urls.url(request, f"/v2/{name}/blobs/{digest}")
    return Response(status_code=201, headers={"Location": location, "Docker-Content-Digest": digest})
