"""A provider that is slow, large, elsewhere or broken costs a bounded time and nothing else."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from registry.auth.oidc.documents import MAX_BYTES, Documents, FetchFailed

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves these bytes to each connection, without closing it, and gives the address."""
    listeners: list[socket.socket] = []
    kept: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def begin(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            with contextlib.suppress(OSError):  # the listener was closed, or the client went away in the middle
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    connection.recv(4096)
                    connection.sendall(answer)

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/document"

    yield begin
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()
    for connection in kept:
        connection.close()


def test_a_document_is_fetched(serve: Serve) -> None:
    assert Documents().fetch(serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) == b"{}"


def test_a_redirect_is_not_followed(serve: Serve) -> None:
    elsewhere = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    with pytest.raises(FetchFailed, match="302"):
        Documents().fetch(serve(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n".encode()))


@pytest.mark.parametrize("length", [b"", b"Content-Length: 1000000000000\r\n"])
def test_a_document_without_end_is_given_up(serve: Serve, length: bytes) -> None:
    with pytest.raises(FetchFailed, match="more than"):
        Documents().fetch(serve(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + b"x" * (MAX_BYTES + 1)))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}"])
def test_a_silent_provider_is_given_up(serve: Serve, answer: bytes) -> None:
    with pytest.raises(FetchFailed):
        Documents(seconds=0.2).fetch(serve(answer))


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answers one connection so, and closes it then; where that is, without the scheme."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                answer(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}/document"
        thread.join()


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "head", [b"", HEAD + b"X-Long: ", HEAD + b"\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_provider_that_sends_a_byte_now_and_then_is_given_up_in_time(scheme: str, head: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(600):
            connection.sendall(b"x")
            time.sleep(0.05)

    with answering(drip) as address:
        began = time.monotonic()
        with pytest.raises(FetchFailed):
            Documents(seconds=0.5).fetch(f"{scheme}://{address}")
        assert time.monotonic() - began < 25, "the document takes 30 seconds"


def test_a_document_that_is_cut_is_none() -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(HEAD + b"Content-Length: 5\r\n\r\n{}")

    with answering(cut) as address, pytest.raises(FetchFailed, match="cut"):
        Documents(seconds=5).fetch(f"http://{address}")


def test_what_is_no_answer_is_given_up(serve: Serve) -> None:
    for url in (serve(b"SSH-2.0-x\r\n\r\n"), "http://127.0.0.1:1/", "https://127.0.0.1:1/", "http://127.0.0.1:99999/"):
        with pytest.raises(FetchFailed):
            Documents(seconds=5).fetch(url)
