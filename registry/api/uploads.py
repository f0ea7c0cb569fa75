"""Uploads: end-4, 5, 6, 11, 13, 14, pushing blobs (spec, "Pushing a blob")."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from registry.api.access import Action, caller_of
from registry.api.context import ended
from registry.api.http.direct_upload import receive_from_socket
from registry.api.http.empty_response import EmptyResponse
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
from registry.api.http.parameters import mount_of, name_of, query_digest, query_of, upload_of
from registry.api.http.reception import Reception, receive_into
from registry.api.http.request_body import PATIENCE, Body, Interrupted, declared_length
from registry.api.http.routing import OciRoute, context_of
from registry.images.uploads.session_ids import noted
from registry.images.uploads.uploads import DEFAULT_ALGORITHM, PerhapsClosed
from registry.observability.audit import Event
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
    QuotaExceeded,
    RangeInvalid,
    RegistryError,
    RequestTimeout,
    SizeInvalid,
    TooManyRequests,
)
from registry.oci.ranges import parse_content_range
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from registry.api.context import ApiContext
    from registry.api.http.parameters import Mount
    from registry.oci.digest import Digest

log = structlog.get_logger(__name__)


SESSIONS = "/v2/{name:path}/blobs/uploads"
SESSION = f"{SESSIONS}/{{upload}}"

SESSION_ERRORS = (NameInvalid, BlobUploadInvalid, BlobUploadUnknown)
CANCEL_ERRORS = (*SESSION_ERRORS, BlobUploadBusy)
BODY_ERRORS = (SizeInvalid, RangeInvalid, RequestTimeout, InsufficientStorage)
CHUNK_ERRORS = (*CANCEL_ERRORS, *BODY_ERRORS, QuotaExceeded)
CLOSE_ERRORS = (*CHUNK_ERRORS, DigestInvalid)
START_ERRORS = (*SESSION_ERRORS, *BODY_ERRORS, DigestInvalid, QuotaExceeded, TooManyRequests)

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
    query = query_of(request)
    mount = mount_of(query) if query else None
    if (
        mount is not None
        and _may_read(context, request, mount)
        and await context.run(_has_mounted, context, request, name, mount)
    ):
        return _created(context, request, name, mount.digest)
    if "digest" in query:
        digest = query_digest(query)
        await _receive_at_once(context, request, name, digest)
        return _created(context, request, name, digest)
    algorithm = query["digest-algorithm"][-1] if "digest-algorithm" in query else DEFAULT_ALGORITHM
    if algorithm not in SUPPORTED_ALGORITHMS:
        raise DigestInvalid(f"digest-algorithm must be one of {', '.join(SUPPORTED_ALGORITHMS)}")
    body = Body(request, context.idle_timeout)
    if not body.ended:
        await body.expect_none()
    mounted = mount.digest if mount is not None else None
    upload_id = await _begin(context, request, name, algorithm, mounted)
    return EmptyResponse(202, _progress(context, request, name, upload_id, 0))


@router.get(SESSION, **operation(Action.PUSH, NAME, UPLOAD, answers=(204,), errors=SESSION_ERRORS))
@router.head(SESSION, **operation(Action.PUSH, NAME, UPLOAD, answers=(204,), errors=SESSION_ERRORS, head=True))
async def status(request: Request) -> Response:
    """Say how many bytes are here, so that a client can resume."""
    context = context_of(request)
    name, upload_id = name_of(request), upload_of(request)
    row = await context.run(context.registry.uploads.find, name, upload_id)
    return EmptyResponse(204, _progress(context, request, name, upload_id, row.offset))


@router.patch(
    SESSION, **operation(Action.PUSH, NAME, UPLOAD, CONTENT_RANGE, answers=(202,), errors=CHUNK_ERRORS, body=BYTES)
)
async def add(request: Request) -> Response:
    """Add a chunk, or a stream of any length."""
    context = context_of(request)
    name, upload_id = name_of(request), upload_of(request)
    offset = await _receive(context, request, name, upload_id, _start_of(request), None)
    return EmptyResponse(202, _progress(context, request, name, upload_id, offset))


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
    digest = query_digest(query_of(request))
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
    return EmptyResponse(204, {})


def _may_read(context: ApiContext, request: Request, mount: Mount) -> bool:
    """Whether the caller may pull from the source (I12); if not, its upload proves that it has the bytes."""
    return context.access.decide(caller_of(request.scope), Action.PULL, mount.source) is None


def _has_mounted(context: ApiContext, request: Request, name: str, mount: Mount) -> bool:
    """Whether the blob was mounted. In a thread. Raises QuotaExceeded: an upload would end so too.

    False whatever is wrong with it or its bytes: the client has them too, and its upload is what mends them.
    """
    try:
        is_mounted = context.registry.blobs.mount(name, mount.digest, mount.source)
    except QuotaExceeded:
        raise
    except (RegistryError, StorageError) as error:
        log.warning("a blob could not be mounted and is uploaded", repository=name, reason=str(error))
        return False
    if is_mounted:
        context.audit.note(request.scope, Event.MOUNT, repository=name, digest=mount.digest, source=mount.source)
    return is_mounted


async def _begin(context: ApiContext, request: Request, name: str, algorithm: str, digest: Digest | None) -> str:
    """Begin a session, which counts as one of the caller, for a blob with ``digest`` if it is known. Returns its id."""
    caller, begin = caller_of(request.scope), context.registry.uploads.start
    return await context.run(begin, name, algorithm, address=caller.address, account=caller.account, digest=digest)


async def _receive_at_once(context: ApiContext, request: Request, name: str, digest: Digest) -> None:
    """Single POST: the client never learns of the session, so none stays when it fails."""
    upload_id = await _begin(context, request, name, digest.algorithm, digest)
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

    A body of one chunk costs one call of the core; a longer or slower one is written while it is received. A chunk out
    of order is answered with where to go on; the session lives (spec, "Pushing a blob in chunks"). One of more bytes
    than a quota has room for ends it: what has come is freed.
    """
    length = declared_length(request)
    if digest is not None and length and context.registry.backends.policy.quotas.of(name):
        await context.run(context.registry.uploads.require_room, name, upload_id, digest, length)
    body = Body(request, context.idle_timeout)
    try:
        if not body.ended:
            with context.receivers.one_more():
                try:
                    await body.gather(context.receivers.chunk_size(), PATIENCE)
                except (Interrupted, asyncio.CancelledError):  # the latter at the end of a drain
                    await ended(context.end(_add_whole, context, name, upload_id, start, body.take(), None))
                    raise
                if not body.ended:
                    return await _receive_long(context, request, name, upload_id, start, digest, body)
        return await context.run(_add_whole, context, name, upload_id, start, body.take(), digest)
    except QuotaExceeded:
        with contextlib.suppress(RegistryError):
            await context.end(context.registry.uploads.cancel, name, upload_id)
        raise
    except RangeInvalid as error:
        detail = error.detail
        if isinstance(detail, dict) and isinstance(offset := detail.get("offset"), int):
            error.headers.update(_progress(context, request, name, upload_id, offset))
        raise


async def _receive_long(
    context: ApiContext,
    request: Request,
    name: str,
    upload_id: str,
    start: int | None,
    digest: Digest | None,
    body: Body,
) -> int:
    """Take a body of several chunks, or a slow one."""
    opening = context.run(context.registry.uploads.open, name, upload_id, start, digest)
    async with Reception.open(context, opening) as reception:
        await _receive_chunks(context, request, body, reception)
        writer = reception.writer
        if digest is not None:
            await ended(context.end(context.registry.uploads.finish, writer, digest))
        else:
            await ended(context.end(writer.commit))
    return writer.offset


async def _receive_chunks(context: ApiContext, request: Request, body: Body, reception: Reception) -> None:
    """Receive all of a body; what came of one that stops in the middle is kept."""
    try:
        if not await receive_from_socket(context, request.scope, body, reception, context.idle_timeout):
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
    return EmptyResponse(201, {"Location": location, "Docker-Content-Digest": digest})
