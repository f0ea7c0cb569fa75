"""What goes over the wire for the messages of an application: the head, the body's framing, the connection's end."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import TYPE_CHECKING, Any, cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from registry.api.http.exchange import AnswerCut
from registry.server.cycle import Cycle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

LINES = b"date: today\r\n"
Headers = list[tuple[bytes, bytes]]


class Wire:
    """The transport of a connection that is not there."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.writes.append(data)

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.is_closed

    def close(self) -> None:
        """Close it."""
        self.is_closed = True


class Exchange:
    """One cycle, its transport and how often it has told of its end."""

    def __init__(self, method: str = "GET", **options: bool) -> None:
        self.wire = Wire()
        self.ends = 0
        transport = cast("asyncio.Transport", self.wire)
        scope = cast("Any", {"type": "http", "method": method})
        self.flow = FlowControl(transport)
        log = logging.getLogger(__name__)
        self.cycle = Cycle(scope, transport, self.flow, log, LINES, self, **options)

    def on_response_complete(self) -> None:
        """See Connection."""
        self.ends += 1

    def end_behind(self, cycle: RequestResponseCycle) -> None:
        """See Connection."""
        assert (cycle, self.ends) == (self.cycle, 0)
        self.wire.close()

    @property
    def written(self) -> bytes:
        """All that was."""
        return b"".join(self.wire.writes)

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head."""
        await self.cycle.send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool = False) -> None:
        """Send a part of the body, the last one unless there is ``more``."""
        await self.cycle.send({"type": "http.response.body", "body": data, "more_body": more})


def play(story: Callable[[Exchange], Awaitable[None]], method: str = "GET", **options: bool) -> Exchange:
    """Tell a story with an exchange."""

    async def tell() -> Exchange:
        exchange = Exchange(method, **options)
        await story(exchange)
        return exchange

    return asyncio.run(tell())


def test_a_head_is_written_at_once_with_the_lines_of_the_server_first() -> None:
    async def story(exchange: Exchange) -> None:
        await exchange.start(201, [(b"Content-Length", b"2"), (b"location", b"/v2/\xe9")])
        assert len(exchange.wire.writes) == 1
        await exchange.body(b"ok")

    exchange = play(story)
    head = b"HTTP/1.1 201 Created\r\ndate: today\r\ncontent-length: 2\r\nlocation: /v2/\xe9\r\n\r\n"
    assert exchange.written == head + b"ok"
    assert (exchange.ends, exchange.wire.is_closed, exchange.cycle.response_complete) == (1, False, True)


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"\0", b"a\x7f", b"\x1b[0m"])
def test_a_value_with_control_characters_is_never_sent(value: bytes) -> None:
    async def story(exchange: Exchange) -> None:
        with pytest.raises(RuntimeError, match="Invalid HTTP header value"):
            await exchange.start(200, [(b"content-length", b"0"), (b"x-value", value)])

    assert play(story).written == b""


@pytest.mark.parametrize("name", [b"a b", b"a:", b"a\r\n", b"\x7f", b"(a)", b"a\\", b'"a"', b"a="])
def test_a_name_that_is_none_is_never_sent(name: bytes) -> None:
    async def story(exchange: Exchange) -> None:
        for _ in range(2):  # a name that was refused is not remembered as good
            exchange.cycle.response_started = False
            with pytest.raises(RuntimeError, match="Invalid HTTP header name"):
                await exchange.start(200, [(name, b"value")])

    assert play(story).written == b""


def test_tabs_and_bytes_beyond_ascii_are_values() -> None:
    async def story(exchange: Exchange) -> None:
        await exchange.start(204, [(b"x-value", b"a\tb \xff")])

    assert b"x-value: a\tb \xff\r\n" in play(story).written


def test_the_answer_to_head_has_the_length_of_a_body_that_is_not_sent() -> None:
    async def story(exchange: Exchange) -> None:
        await exchange.start(200, [(b"content-length", b"5")])
        await exchange.body(b"12345")

    exchange = play(story, "HEAD")
    assert exchange.written.endswith(b"content-length: 5\r\n\r\n")
    assert exchange.ends == 1


@pytest.mark.parametrize("headers", [[], [(b"transfer-encoding", b"Chunked")]])
def test_a_body_without_a_length_is_sent_in_chunks(headers: Headers) -> None:
    async def story(exchange: Exchange) -> None:
        await exchange.start(200, headers)
        await exchange.body(b"x" * 17, more=True)
        await exchange.body(b"", more=True)
        await exchange.body(b"end")

    exchange = play(story)
    head, _, body = exchange.written.partition(b"\r\n\r\n")
    assert head.lower().count(b"transfer-encoding: chunked") == 1
    assert body == b"11\r\n" + b"x" * 17 + b"\r\n3\r\nend\r\n0\r\n\r\n"
    assert exchange.ends == 1


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_has_no_coding_either(status: int) -> None:
    async def story(exchange: Exchange) -> None:
        await exchange.start(status, [])
        await exchange.body(b"")

    exchange = play(story)
    assert b"transfer-encoding" not in exchange.written
    assert exchange.written.endswith(b"\r\n\r\n")
    assert exchange.ends == 1


def test_a_body_longer_than_its_length_is_an_error() -> None:
    async def story(exchange: Exchange) -> None:
        await exchange.start(200, [(b"content-length", b"3")])
        with pytest.raises(RuntimeError, match="longer than Content-Length"):
            await exchange.body(b"1234")

    assert play(story).ends == 0


def test_a_body_shorter_than_its_length_is_an_error() -> None:
    async def story(exchange: Exchange) -> None:
        await exchange.start(200, [(b"content-length", b"3")])
        await exchange.body(b"1", more=True)
        with pytest.raises(RuntimeError, match="shorter than Content-Length"):
            await exchange.body(b"2")

    exchange = play(story)
    assert (exchange.ends, exchange.cycle.response_complete) == (0, False)


@pytest.mark.parametrize("headers", [[], [(b"Connection", b"Close")], [(b"connection", b"x, close")]])
def test_a_connection_that_is_not_kept_says_so_once_and_is_closed(headers: Headers) -> None:
    async def story(exchange: Exchange) -> None:
        await exchange.start(200, [(b"content-length", b"0"), *headers])
        assert not exchange.wire.is_closed
        await exchange.body(b"")

    exchange = play(story, keep_alive=bool(headers))
    assert exchange.written.lower().count(b"connection: ") == 1
    assert exchange.wire.is_closed
    assert exchange.ends == 1


def test_messages_out_of_order_are_errors() -> None:
    async def story(exchange: Exchange) -> None:
        with pytest.raises(RuntimeError, match=r"Expected ASGI message 'http\.response\.start'"):
            await exchange.body(b"")
        await exchange.start(200, [(b"content-length", b"0")])
        with pytest.raises(RuntimeError, match=r"Expected ASGI message 'http\.response\.body'"):
            await exchange.start(200, [])
        await exchange.body(b"")
        with pytest.raises(RuntimeError, match="after response already completed"):
            await exchange.body(b"")

    assert play(story).ends == 1


def test_a_client_that_is_gone_is_sent_nothing_and_its_application_hears_of_it() -> None:
    async def story(exchange: Exchange) -> None:
        exchange.cycle.disconnected = True
        await exchange.start(200, [])
        await exchange.body(b"x")
        assert await exchange.cycle.receive() == {"type": "http.disconnect"}

    assert play(story).written == b""


def test_an_application_waits_for_a_client_that_takes_nothing() -> None:
    async def story(exchange: Exchange) -> None:
        exchange.flow.pause_writing()
        sending = asyncio.ensure_future(exchange.start(200, [(b"content-length", b"0")]))
        await asyncio.sleep(0.01)
        assert not exchange.written
        exchange.flow.resume_writing()
        await sending

    assert play(story).written


def test_a_client_that_waits_to_be_told_is_told_when_its_body_is_wanted() -> None:
    async def story(exchange: Exchange) -> None:
        receiving = asyncio.ensure_future(exchange.cycle.receive())
        await asyncio.sleep(0)
        assert exchange.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        exchange.cycle.body += b"body"
        exchange.cycle.more_body = False
        exchange.cycle.message_event.set()
        assert await receiving == {"type": "http.request", "body": b"body", "more_body": False}

    play(story, waits_to_be_told=True)


def test_a_whole_answer_is_written_in_one_piece() -> None:
    async def story(exchange: Exchange) -> None:
        assert exchange.cycle.answer(200, [(b"x-value", b"1"), (b"content-length", b"4")], b"body")

    exchange = play(story)
    assert exchange.wire.writes == [b"HTTP/1.1 200 OK\r\ndate: today\r\nx-value: 1\r\ncontent-length: 4\r\n\r\nbody"]
    assert (exchange.ends, exchange.cycle.response_complete) == (1, True)


def test_a_large_body_is_not_copied_behind_its_head() -> None:
    body = b"x" * (1 << 20)

    async def story(exchange: Exchange) -> None:
        assert exchange.cycle.answer(200, [(b"content-length", b"%d" % len(body))], memoryview(body))

    exchange = play(story)
    assert [len(data) for data in exchange.wire.writes[1:]] == [len(body)]


@pytest.mark.parametrize(
    ("method", "status", "headers", "body", "end"),
    [
        ("HEAD", 200, [(b"content-length", b"9")], b"", b"content-length: 9\r\n\r\n"),
        ("HEAD", 404, [(b"content-length", b"9")], b"123456789", b"content-length: 9\r\n\r\n"),
        ("GET", 304, [], b"", b"date: today\r\n\r\n"),
        ("GET", 200, [], b"ok", b"\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ],
)
def test_a_whole_answer_is_framed_as_one_in_parts(
    method: str, status: int, headers: Headers, body: bytes, end: bytes
) -> None:
    async def story(exchange: Exchange) -> None:
        assert exchange.cycle.answer(status, headers, body)

    exchange = play(story, method)
    assert exchange.written.endswith(end)
    assert exchange.ends == 1


def test_a_whole_answer_of_another_length_is_an_error() -> None:
    async def story(exchange: Exchange) -> None:
        with pytest.raises(RuntimeError, match="Content-Length"):
            exchange.cycle.answer(200, [(b"content-length", b"3")], b"four")

    assert (play(story).written, play(story).ends) == (b"", 0)


def test_a_whole_answer_ends_a_connection_that_is_not_kept() -> None:
    async def story(exchange: Exchange) -> None:
        assert exchange.cycle.answer(200, [(b"content-length", b"0")], b"")

    exchange = play(story, keep_alive=False)
    assert exchange.written.endswith(b"content-length: 0\r\nconnection: close\r\n\r\n")
    assert exchange.wire.is_closed


def test_a_whole_answer_is_refused_where_it_might_have_to_wait() -> None:
    def refused(exchange: Exchange) -> None:
        assert not exchange.cycle.answer(200, [(b"content-length", b"0")], b"")
        assert not exchange.written

    async def story(exchange: Exchange) -> None:
        exchange.flow.pause_writing()
        refused(exchange)
        exchange.flow.resume_writing()
        exchange.cycle.disconnected = True
        refused(exchange)

    async def untold(exchange: Exchange) -> None:
        refused(exchange)

    play(story)
    play(untold, waits_to_be_told=True)


def test_a_request_that_has_ended_frees_what_it_held_without_a_collection() -> None:
    class Held:
        """Something that a request refers to."""

    async def story(exchange: Exchange) -> weakref.ref[Held]:
        held = Held()
        exchange.cycle.scope["extensions"] = {"held": held, "answer": exchange.cycle.answer}  # type: ignore[dict-item]

        async def app(_scope: object, _receive: object, _send: object) -> None:
            exchange.cycle.answer(200, [(b"content-length", b"0")], b"")

        kept = weakref.ref(held)
        del held
        await exchange.cycle.run_asgi(cast("Any", app))
        return kept

    async def tell() -> bool:
        exchange = Exchange()
        gc.disable()
        try:
            return (await story(exchange))() is None
        finally:
            gc.enable()

    assert asyncio.run(tell())


@pytest.mark.parametrize(("begins", "closes"), [(False, False), (True, True)])
def test_an_application_that_fails_is_answered_500_or_cut(
    caplog: pytest.LogCaptureFixture, *, begins: bool, closes: bool
) -> None:
    async def story(exchange: Exchange) -> None:
        async def app(_scope: object, _receive: object, _send: object) -> None:
            if begins:
                await exchange.start(200, [(b"content-length", b"2")])
            raise ValueError("a defect")

        await exchange.cycle.run_asgi(cast("Any", app))

    exchange = play(story)
    assert exchange.written.startswith(b"HTTP/1.1 200 " if begins else b"HTTP/1.1 500 ")
    assert exchange.wire.is_closed >= closes
    assert "a defect" in caplog.text


def test_an_application_that_ends_without_an_answer_is_answered_500() -> None:
    async def story(exchange: Exchange) -> None:
        async def app(_scope: object, _receive: object, _send: object) -> None:
            """Say nothing."""

        await exchange.cycle.run_asgi(cast("Any", app))

    assert play(story).written.startswith(b"HTTP/1.1 500 ")


def test_an_answer_that_is_cut_ends_its_connection_and_is_logged_by_the_application_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(exchange: Exchange) -> None:
        async def app(_scope: object, _receive: object, _send: object) -> None:
            await exchange.start(200, [(b"content-length", b"2")])
            await exchange.body(b"x", more=True)
            raise AnswerCut

        await exchange.cycle.run_asgi(cast("Any", app))

    exchange = play(story)
    assert exchange.written.endswith(b"\r\n\r\nx")
    assert (exchange.wire.is_closed, exchange.ends, caplog.text) == (True, 0, "")
