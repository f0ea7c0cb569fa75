"""A wait for an upstream ends at once where nothing wants its answer, wherever in a request it is."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry import interruption
from registry.interruption import Interrupted, Interruption, interruptible
from registry.upstream.client import Upstream
from registry.upstream.download import Goal
from tests.support.authority import Authority
from tests.upstream.hostile import (
    LOCAL,
    Handler,
    HostileServer,
    Reply,
    Silence,
    hostile_server,
    redirect,
    upstream_of,
    whole,
)

HANGS = 300
"""Seconds that the upstream may be silent."""
WAIT = 60.0
"""Seconds after which a test has hung."""
PATH = "/file"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome bytes"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\nsome bytes"
BEGINNINGS = {"nothing": b"", "half a head": HEAD[:20], "a body": HEAD, "chunks": CHUNKED, "no length": ENDLESS}


def download(upstream: Upstream, path: str = PATH) -> bytes:
    with upstream.download(path, scope="", goal=Goal(hashlib.sha256())) as download:
        return b"".join(iter(lambda: download.read(1 << 20), b""))


def interrupted(work: Callable[[], object], silence: Silence) -> None:
    """Let a thread work until it waits in ``silence``, and interrupt it."""
    own = Interruption()

    def run() -> None:
        with own:
            work()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run)
        assert silence.reached.wait(WAIT)
        own.interrupt()
        with pytest.raises(Interrupted):
            future.result(WAIT)
    assert silence.is_cut.wait(WAIT)


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_request_to_a_silent_upstream_ends_and_the_next_one_is_answered(server: HostileServer, begin: bytes) -> None:
    silence = Silence(begin)
    server.replies[PATH] = silence
    with upstream_of(server.url(), read_timeout=HANGS, connections=1) as upstream:
        interrupted(lambda: download(upstream), silence)
        server.replies[PATH] = whole(200, b"all of it")
        assert download(upstream) == b"all of it"


def test_it_ends_behind_a_redirect_and_at_a_token_service(server: HostileServer, other: HostileServer) -> None:
    silence = Silence()
    other.replies["/token"] = other.replies["/elsewhere"] = silence
    server.replies[PATH] = redirect(other.url() + "/elsewhere")
    challenge = f'Bearer realm="{other.url()}/token",service="s"'
    server.replies["/private"] = whole(401, WWW_Authenticate=challenge)
    with upstream_of(server.url(), read_timeout=HANGS, allowed_hosts=["127.0.0.0/8"]) as upstream:
        interrupted(lambda: download(upstream), silence)
        silence = other.replies["/token"] = Silence()
        interrupted(lambda: download(upstream, "/private"), silence)
        # The token was not refused: the next request asks for one.
        other.replies["/token"] = whole(200, b'{"token": "t"}')
        tokens: list[str | None] = []

        def give(handler: Handler) -> None:
            tokens.append(handler.headers.get("Authorization"))
            (whole(200, b"private") if tokens[-1] else whole(401, WWW_Authenticate=challenge))(handler)

        server.replies["/private"] = give
        assert download(upstream, "/private") == b"private"


@pytest.mark.parametrize("begin", [b"", HEAD])
def test_it_ends_in_a_conversation_over_tls(tmp_path: Path, begin: bytes) -> None:
    silence, authority = Silence(begin), Authority(tmp_path)
    with hostile_server(authority.server(LOCAL)) as server:
        server.replies[PATH] = silence
        with upstream_of(server.url(), read_timeout=HANGS, ca=authority.pem) as upstream:
            interrupted(lambda: download(upstream), silence)


def test_who_waits_for_the_login_of_another_thread_is_interrupted(server: HostileServer) -> None:
    silence = Silence()
    challenge: Reply = whole(401, WWW_Authenticate=f'Bearer realm="{server.url()}/token",service="s"')
    server.replies |= {PATH: challenge, "/token": silence}
    first, second = Interruption(), Interruption()

    def run(own: Interruption) -> None:
        with own:
            download(upstream)

    with upstream_of(server.url(), read_timeout=HANGS) as upstream, ThreadPoolExecutor(2) as pool:
        one = pool.submit(run, first)
        assert silence.reached.wait(WAIT)
        two = pool.submit(run, second)
        second.interrupt()
        with pytest.raises(Interrupted):
            two.result(WAIT)
        assert not one.done()
        first.interrupt()
        with pytest.raises(Interrupted):
            one.result(WAIT)


def test_what_is_waited_for_afterwards_is_interrupted_too() -> None:
    own, ended = Interruption(), list[str]()
    with own, interruptible(lambda: ended.append("before")):
        pass
    own.interrupt()
    assert ended == []
    with own:
        with pytest.raises(Interrupted), interruptible(lambda: ended.append("after")):
            pytest.fail("it begins")
        with pytest.raises(Interrupted):
            interruption.sleep(HANGS)
        lock = threading.Lock()
        assert interruption.acquire(lock, 1.0), "what is free needs no wait"
        with pytest.raises(Interrupted):
            interruption.acquire(lock, HANGS)


def test_a_thread_without_one_waits_as_ever() -> None:
    with interruptible(lambda: pytest.fail("it is ended")):
        interruption.sleep(0.0)
    lock = threading.Lock()
    assert interruption.acquire(lock, 0.0)
    assert not interruption.acquire(lock, 0.01)
    with Interruption():
        assert not interruption.acquire(lock, 0.01)
