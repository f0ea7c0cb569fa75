"""One connection through the fault proxy: requests in turn, each passed on, answered wrongly, hung or cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from tests.support.access_log import Call
from tests.support.fault_plan import Cut, Fail, Hang
from tests.support.http_message import UNTIL_CLOSE, BrokenMessage, Head, pieces, read_head
from tests.support.signature import without

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from tests.support.dialect import Dialect
    from tests.support.fault_plan import Fault, Plan

LIMIT = 1 << 20
"""Bytes that a stream keeps before it stops reading; a head has to fit."""
LINGER = 2.0
"""Seconds that a client has to read an answer that came before the end of its request."""
NO_ANSWER = 0
"""Stands as the status of a call whose client got none."""

_NEVER = struct.pack("ii", 1, 0)


class Reset(Exception):
    """The connection of the client is to be reset."""


class TargetGone(ConnectionError):
    """The receiver of a body has closed the connection."""


@dataclass
class Settings:
    """What holds for every connection; the test may change it between requests."""

    host: str
    port: int
    dialect: Dialect
    secret: str | None
    delay: float
    strip: AbstractSet[str]


@dataclass
class _Stream:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        """Close the connection with RST, so that the other side gets an error and no end of file."""
        with suppress(OSError, AttributeError):
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NEVER)
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Write, and wait while the other side does not read."""
        self.writer.write(data)
        await self.writer.drain()


class Exchange:
    """A client's connection, and one to the store that is opened for it and kept as long."""

    def __init__(
        self, settings: Settings, plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._client = _Stream(reader, writer)
        self._store: _Stream | None = None
        self._call: Call | None = None

    async def run(self) -> None:
        """Serve requests until either side closes, or a fault ends the connection."""
        try:
            while (head := await read_head(self._client.reader)) is not None:
                if not await self._one(head):
                    await self._linger()
                    break
        except (Reset, OSError, EOFError):
            self._client.reset()
        except asyncio.CancelledError:
            self._client.reset()
            raise
        finally:
            if self._store is not None:
                self._store.writer.close()
            self._client.writer.close()

    async def _one(self, head: Head) -> bool:
        """Serve one request and note it; tell whether another may follow on the connection."""
        method, target = head.method, head.target
        kind = self._settings.dialect.kind(method, target, head.headers())
        self._call = Call(method, kind, target, NO_ANSWER)
        try:
            if delay := self._settings.delay:
                await asyncio.sleep(delay)
            fault = self._plan.fault(kind, method, target)
            if isinstance(fault, Fail | Hang) and not fault.after:
                return await self._leave(head, fault)
            return await self._forward(without(head, self._settings.strip, self._settings.secret), fault)
        finally:
            self._note(NO_ANSWER)

    def _note(self, status: int) -> None:
        """Note the request, once: before the client can have its answer, so that a test that has it finds the call."""
        if self._call is not None:
            self._plan.note(replace(self._call, status=status))
            self._call = None

    async def _leave(self, head: Head, fault: Fail | Hang) -> bool:
        """Do not ask the store; tell whether the request was read to its end."""
        if isinstance(fault, Hang):
            await self._hang()
        if fault.status is None:
            raise Reset
        waits = "100-continue" in (head.get("expect") or "").lower()
        if not waits:
            async for _ in pieces(self._client.reader, head.length):
                pass
        media_type, body = self._settings.dialect.error(fault.status)
        answer = Head(
            f"HTTP/1.1 {fault.status} Fault".encode(),
            [
                (b"Content-Type", media_type.encode()),
                (b"Content-Length", str(len(body)).encode()),
                *([(b"Connection", b"close")] if waits else []),
            ],
        )
        self._note(fault.status)
        await self._client.send(bytes(answer) + (b"" if head.method == "HEAD" else body))
        return not waits and head.keeps

    async def _hang(self) -> NoReturn:
        """Read what the client sends until it gives up."""
        self._note(NO_ANSWER)
        while await self._client.reader.read(LIMIT):
            pass
        raise Reset

    async def _forward(self, head: Head, fault: Fault | None) -> bool:
        """Pass a request on and its answer back; tell whether both connections can be used again."""
        store = await self._open()
        limit = fault.request if isinstance(fault, Cut) else None
        await store.send(bytes(head))
        sending = asyncio.create_task(self._send_body(store, head, limit))
        answering = asyncio.create_task(read_head(store.reader))
        try:
            while True:
                await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
                answer = await answering
                if answer is None:
                    raise BrokenMessage("the store closed the connection")
                if answer.status >= 200:
                    return await self._return(head, answer, store, sending, fault)
                # An answer before the answer: 100 Continue.
                await self._client.send(bytes(answer))
                answering = asyncio.create_task(read_head(store.reader))
        finally:
            for task in (sending, answering):
                task.cancel()
                with suppress(Exception, asyncio.CancelledError):
                    await task

    async def _return(
        self, head: Head, answer: Head, store: _Stream, sending: asyncio.Task[None], fault: Fault | None
    ) -> bool:
        length = answer.response_length(head.method)
        if isinstance(fault, Fail | Hang):  # the store did it, and its client is not told
            async for _ in pieces(store.reader, length):
                pass
            if isinstance(fault, Hang):
                await self._hang()
            raise Reset
        # An answer before the end of the request: the rest will not be sent, or not be read.
        keeps = sending.done() and head.keeps and answer.keeps and length != UNTIL_CLOSE
        limit = fault.response if isinstance(fault, Cut) else None
        self._note(answer.status)
        await self._client.send(bytes(answer if keeps else answer.having(b"Connection", b"close")))
        await self._pass(store, self._client, length, limit)
        return keeps

    async def _send_body(self, store: _Stream, head: Head, limit: int | None) -> None:
        try:
            await self._pass(self._client, store, head.length, limit)
        except Reset:
            store.reset()
            raise
        except TargetGone:
            return  # it may have answered before the end of the body

    async def _pass(self, source: _Stream, target: _Stream, length: int, limit: int | None) -> None:
        """Pass a body on; raises ``Reset`` at its byte ``limit``, and at its end where it is shorter."""
        left = limit
        async for piece in pieces(source.reader, length):
            if left is not None and len(piece) >= left:
                await target.send(piece[:left])
                await asyncio.sleep(0.05)  # a reset takes back what was not yet sent
                raise Reset
            try:
                await target.send(piece)
            except OSError as error:
                raise TargetGone from error
            left = None if left is None else left - len(piece)
        if limit is not None:
            raise Reset

    async def _open(self) -> _Stream:
        """The connection to the store; a new one where the store closed the old one since the last request."""
        if self._store is not None and self._store.reader.at_eof():
            self._store.writer.close()
            self._store = None
        if self._store is None:
            opened = await asyncio.open_connection(self._settings.host, self._settings.port, limit=LIMIT)
            self._store = _Stream(*opened)
        return self._store

    async def _linger(self) -> None:
        """Let the client read its answer: closing over unread bytes would reset the connection before."""
        with suppress(OSError, TimeoutError):
            self._client.writer.write_eof()
            async with asyncio.timeout(LINGER):
                while await self._client.reader.read(LIMIT):
                    pass
