"""The body of a manifest: few bytes wait for the rest in memory, more on storage, and few large ones are read at once.

A manifest may have megabytes, and parsed it takes many times its size. So one that is large or slow is received as an
upload of its own, which no client learns of, and read back when it is whole.

Tests: ``tests/server/test_slow_uploads.py``, ``tests/api/test_uploads.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from registry.api.access import caller_of
from registry.api.context import ended
from registry.api.http.reception import Reception, receive_into
from registry.api.http.request_body import LEAST, PATIENCE, Body, declared_length
from registry.oci.errors import ManifestTooLarge, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from registry.api.access import Caller
    from registry.api.context import ApiContext
    from registry.images.uploads.blob_writer import BlobWriter

T = TypeVar("T")


async def with_manifest(context: ApiContext, request: Request, name: str, use: Callable[[bytes], T]) -> T:
    """What ``use`` returns for the body of a request to the repository ``name``, called in a thread.

    Raises ManifestTooLarge beyond ``manifests.max_bytes``, and SizeInvalid.
    """
    limit = context.settings.manifests.max_bytes
    length = declared_length(request)
    if length is not None and length > limit:
        raise ManifestTooLarge(f"the manifest has {length} bytes, at most {limit} are accepted")
    body = Body(request, context.idle_timeout)
    if not body.ended:
        with context.receivers.one_more():
            await body.gather(min(LEAST, limit + 1))
            await body.gather(min(context.receivers.chunk_size(), limit + 1), PATIENCE)
            if body.gathered > limit:
                await _refuse(body, limit)
            if not body.ended:
                return await _by_way_of_storage(context, body, name, caller_of(request.scope), use)
    elif body.gathered > limit:
        await _refuse(body, limit)
    if body.gathered <= LEAST:
        return await context.run(use, body.take())
    async with context.large_manifests.of(body.gathered):
        return await context.run(use, body.take())


async def _by_way_of_storage(
    context: ApiContext, body: Body, name: str, caller: Caller, use: Callable[[bytes], T]
) -> T:
    """As ``with_manifest``. The upload counts as one of the caller."""
    limit, start = context.settings.manifests.max_bytes, context.registry.uploads.start
    upload_id = await context.run(start, name, address=caller.address, account=caller.account, is_blob=False)
    try:
        opening = context.run(context.registry.uploads.open, name, upload_id, None, is_blob=False)
        async with Reception.open(context, opening) as reception:
            await receive_into(context, body, reception, most=limit)
            size = reception.writer.offset
            if size > limit:
                await _refuse(body, limit)
            async with context.large_manifests.of(size):
                return await ended(context.end(_use_content, reception.writer, use))
    finally:
        with contextlib.suppress(RegistryError):  # else it expires
            await ended(context.end(context.registry.uploads.cancel, name, upload_id))


def _use_content(writer: BlobWriter, use: Callable[[bytes], T]) -> T:
    """In a thread."""
    return use(writer.content())


async def _refuse(body: Body, limit: int) -> None:
    """As much again is read and dropped; then the connection is closed. Raises ManifestTooLarge."""
    await body.drop(limit)
    closing = {} if body.ended else {"Connection": "close"}
    raise ManifestTooLarge(f"the manifest is larger than {limit} bytes", headers=closing)
