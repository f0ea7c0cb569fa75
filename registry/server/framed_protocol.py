"""Framed protocol: uvicorn's HTTP protocol with bounds on content, framing and waits.

Tests: ``tests/hostile/test_framing.py``, ``tests/server/test_bounds.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from registry.oci.errors import HeadTimeout, HeadTooLarge, MalformedRequest, RegistryError, TargetTooLong, Unavailable
from registry.server.cycle import Cycle
from registry.server.deadlines import Wait
from registry.server.framing import check_framing, size_of, trimmed, without_upgrade
from registry.server.peer import cut, taken, untaken
from registry.server.pipeline_flow import DEPTH, PipelineFlow
from registry.server.refusal import render

if TYPE_CHECKING:
    import asyncio

    from uvicorn import Config
    from uvicorn._types import HTTPScope
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from registry.api.http.access_log import AccessLog
    from registry.config.sections import HttpSettings

SLICE = 16 << 10
"""Bytes that the parser is given at once: no bound is overrun by more than that before it is looked at."""
LINGER_BYTES = 16 << 20
"""What a client that was refused may still send before the connection is cut."""
PROBES = frozenset({b"/livez", b"/readyz", b"/metrics"})
"""What is answered on connections of the reserve too."""

_PADDING: Final = frozenset({b" ", b"\t"})

log = structlog.get_logger(__name__)


class _Bounded(Protocol):
    """uvicorn's configuration with what the bounds of a connection need (``ServingConfiguration``)."""

    http_settings: HttpSettings


class FramedProtocol(HttpToolsProtocol):
    """Refuses what is too large or not framed for certain, never becomes another protocol, and can be watched.

    A refusal is the last answer of its connection, behind those to the requests before it.
    """

    flow: PipelineFlow
    parsed = 0
    """Bytes of the body of the last request that the parser has seen."""
    begun = 0
    """Requests of which something has arrived."""
    is_spare = False
    """Whether this is a connection of the reserve, on which only probes are answered."""
    is_deaf = False
    """Whether nothing that still comes is looked at."""
    _skipping = 0
    """Bytes of a body that are still to come, and are dropped."""
    _between = True
    """Whether the next byte is none of a request that has begun."""
    _in_head = False
    _is_last = False
    """Whether the connection ends with the answer to the last request."""
    _reframes = False
    """Whether the head is read again, without what asks for another protocol."""
    _hosts = 0
    """Host headers of the request."""
    _is_padded = False
    """Whether a value of the head ends with a space or a tab."""
    _expects = b""
    """The value of its Expect header."""
    _size = 0
    """Bytes of the head or, since the last byte of the body, of its framing: with what came before in their slice."""
    _measures = False
    """Whether a head is measured that arrives at once, too."""
    _is_apart = False
    """Whether what arrives is not for the parser, or not yet."""
    _lingers = False
    _dropped = 0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        http = cast("_Bounded", config).http_settings
        self.parser = httptools.HttpRequestParser(self)  # uvicorn's own lets data pass that follow the last request
        self._most_headers = http.max_headers
        self._most_target = http.max_target_bytes
        self._most_head = http.max_head_bytes
        self._harmless = min(SLICE, http.max_head_bytes, http.max_target_bytes)
        """Bytes that may arrive at once, and need no measuring."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See asyncio."""
        super().connection_made(transport)
        self.flow = PipelineFlow(transport, self.pipeline)
        self._measures = self.is_spare

    def feed_slices(self, data: bytes) -> None:
        """Give the parser what it may have now; the rest is held, or dropped where the connection is deaf."""
        rest = memoryview(self.flow.take_held() + data)
        self._is_apart = self.is_deaf
        self._measures = True
        while rest and not self.is_deaf:
            if len(self.pipeline) >= DEPTH:
                self._is_apart = True
                self.flow.hold(rest)
                break
            again = self.feed(rest[:SLICE])
            rest = memoryview(again + rest[SLICE:]) if again else rest[SLICE:]
        self._measures = self.is_spare
        if self.is_deaf:
            self._drop(len(rest))

    def feed(self, data: bytes | memoryview) -> bytes:
        """Give the parser at most SLICE bytes. Returns what it is to be given again, in place of them."""
        again = b""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            again = self._head_again() + data[upgrade.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserCallbackError as error:
            self._not_parsed(error.__context__)
        except httptools.HttpParserError:
            self._not_parsed(None)
        if not self._between and not again:
            self.measure(len(data))
        return again

    def measure(self, size: int) -> None:
        """After a slice that has not ended its request: is its head, or the framing of its body, too large by now."""
        self._size += size
        if self.is_deaf:
            return
        if len(self.url) > self._most_target:
            self.refuse(TargetTooLong())
        elif self._size > self._most_head + SLICE or len(self.headers) > self._most_headers:
            self.refuse(HeadTooLarge())

    def on_header(self, name: bytes, value: bytes) -> None:
        """See uvicorn. Called for trailers too, which the application does not see."""
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect":
            self._expects = value
        if value[-1:] in _PADDING:
            self._is_padded = True
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """See uvicorn."""
        self._size = 0
        self.parsed += len(body)

    def on_response_complete(self) -> None:
        """As uvicorn's, but no timer is set: connections are watched."""
        self.server_state.total_requests += 1
        if self.transport.is_closing() or self._lingers:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if self.flow.held and len(self.pipeline) < DEPTH // 2:
            self.loop.call_soon(self._go_on)

    def end_behind(self, cycle: RequestResponseCycle) -> None:
        """End the connection behind the last answer, once the client has had time to read it (RFC 9112, section 9.6).

        Closed while the rest of a body still comes, the connection would be reset, which can take the answer from it.
        """
        if cycle.disconnected or not (self._skipping or (cycle.more_body and cycle is self.cycle)):
            self.transport.close()
            return
        self._be_deaf()
        self._skipping = 0
        self._lingers = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.read_on()

    def check_bounds(self) -> None:
        """Raises RegistryError for a head that is too large, or not to be answered on this connection."""
        if len(self.url) > self._most_target:
            raise TargetTooLong
        if len(self.headers) > self._most_headers or size_of(self.url, self.headers) > self._most_head:
            raise HeadTooLarge
        if self.is_spare and self.url.partition(b"?")[0] not in PROBES:
            raise Unavailable("too many connections are open; try again shortly", headers={"Retry-After": "1"})

    def is_framed(self) -> bool:
        """Whether the request may begin; False if its head must be read again. Raises RegistryError."""
        method = self.parser.get_method()
        if self._is_padded:
            self.headers = trimmed(self.headers)
        check_framing(method, self.url, self.parser.get_http_version(), self.headers)
        self._reframes = self.parser.should_upgrade()
        return not self._reframes

    def refuse(self, error: RegistryError) -> None:
        """Answer nothing more than what came before, and this."""
        if self.is_deaf:
            return
        self._be_deaf()
        method = self.parser.get_method() if self._in_head and self.url else b""
        cycle: RequestResponseCycle | None = self.cycle
        is_of_cycle = not self._between and not self._in_head and cycle is not None
        waits_for_turn = is_of_cycle and bool(self.pipeline) and self.pipeline[0][0] is cycle
        if waits_for_turn:
            self.pipeline.popleft()
        elif is_of_cycle and cycle is not None:
            self._end_cycle(cycle)
            if cycle.response_started:
                return
        answer = self._render(error, method)
        if waits_for_turn or (not is_of_cycle and cycle is not None and not cycle.response_complete):
            self._say_in_turn(answer)
        else:
            self._say(answer)

    def standing(self) -> tuple[Wait, object]:
        """See ``Watched``."""
        cycle: RequestResponseCycle | None = self.cycle
        transport = self.transport
        if self._lingers:
            return Wait.LINGER, None
        is_busy = cycle is not None and not cycle.response_complete
        if is_busy or transport.is_closing() or transport.get_write_buffer_size():
            waiting = untaken(transport)
            is_waiting = waiting or transport.is_closing()
            return (Wait.ANSWER, (waiting, taken(transport))) if is_waiting else (Wait.US, None)
        if not self._between or self._skipping:
            return (Wait.HEAD if self._in_head else Wait.BODY), (self.begun, self.parsed, self._skipping)
        if self.begun:
            return Wait.NEXT_REQUEST, self.begun
        return (Wait.FIRST_BYTE_OF_SPARE if self.is_spare else Wait.FIRST_BYTE), None

    def expire(self, wait: Wait) -> None:
        """See ``Watched``."""
        if wait is Wait.HEAD:
            self.refuse(HeadTimeout())
        elif wait in {Wait.FIRST_BYTE, Wait.FIRST_BYTE_OF_SPARE, Wait.NEXT_REQUEST}:
            self.transport.close()
        else:
            cut(self.transport)

    def leave(self) -> None:
        """See ``Watched``."""
        self.transport.abort()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # the interface of asyncio says so
        """A client that has sent a whole request and closed its side still waits for the answer."""
        cycle: RequestResponseCycle | None = self.cycle
        if self._lingers or cycle is None or cycle.more_body or cycle.response_complete:
            return None
        cycle.keep_alive = False
        return True

    def _unset_keepalive_if_required(self) -> None:
        """See uvicorn, whose timer is not used."""

    def _go_on(self) -> None:
        """Look at what was held."""
        if self.transport.is_closing():
            return
        self.feed_slices(b"")
        self.flow.resume_reading()

    def _head_again(self) -> bytes:
        self._reframes = False
        return without_upgrade(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)

    def _not_parsed(self, cause: BaseException | None) -> None:
        if self._is_last and self._between:
            self._be_deaf()  # what follows the last request is none
        elif isinstance(cause, RegistryError):
            self.refuse(cause)
        else:
            self.logger.warning("Invalid HTTP request received.")  # as uvicorn says it
            if not isinstance(cause, (httptools.HttpParserError, UnicodeError, type(None))):
                log.error("a head could not be handled", exc_info=cause)
            self.refuse(MalformedRequest())

    def _end_cycle(self, cycle: RequestResponseCycle) -> None:
        """The body of a request that is being answered cannot be read on."""
        cycle.disconnected = True
        cycle.message_event.set()
        if cycle.response_complete:
            self.transport.close()
        elif cycle.response_started:
            self.transport.abort()  # nothing can be said any more: it would be part of that answer

    def _render(self, error: RegistryError, method: bytes) -> bytes:
        application = cast("AccessLog", self.app)
        target = self.url.partition(b"?")[0].decode("latin-1") if self.begun else ""
        headers = application.refuse(error, method.decode("ascii"), target, self.client[0] if self.client else None)
        return render(error, [*self.server_state.default_headers, *headers], is_head=method == b"HEAD")

    def _say(self, answer: bytes) -> None:
        """Write it, and read on until the client has: what it still sends would else take the answer from it."""
        self.transport.write(answer)
        if self.transport.can_write_eof():
            self._lingers = True
            self.transport.write_eof()
            self.flow.read_on()
        else:
            self.transport.close()

    def _say_in_turn(self, answer: bytes) -> None:
        """Write it behind the answers that are still to come."""
        scope = cast("HTTPScope", {"type": "http", "method": "GET"})  # all that it looks at
        flow = cast("FlowControl", self.flow)
        cycle = Cycle(scope, self.transport, flow, self.logger, b"", self, keep_alive=False)
        cycle.more_body = False

        async def say(*_: object) -> None:
            cycle.response_started = cycle.response_complete = True
            self._say(answer)

        self.cycle = cycle
        self.pipeline.appendleft((cycle, say))

    def _be_deaf(self) -> None:
        self.is_deaf = self._is_apart = True

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > LINGER_BYTES:
            cut(self.transport)
